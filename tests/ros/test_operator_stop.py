"""~/stop of policy_node: the fallback drives at once, and until somebody calls ~/reset."""

from __future__ import annotations

import time

import numpy as np
import pytest
from test_stops import PLACE, controlling

from bench.faults.nodes import change_state, statuses


def ask(peer, name: str):
    from std_srvs.srv import Trigger

    return peer.call(Trigger, f"policy_node/{name}", Trigger.Request())


def test_it_stops_within_a_period_and_only_a_reset_ends_that(start_node, peer, arm_bundle):
    from std_srvs.srv import Trigger

    status = statuses(peer)
    folder = arm_bundle.path.parent
    node, robot = controlling(start_node, peer, arm_bundle, bundles_folder=folder)
    client = peer.node.create_client(Trigger, "policy_node/stop")
    peer.wait_for(client.service_is_ready, "service")
    began_s = time.monotonic()
    future = client.call_async(Trigger.Request())
    peer.wait_for(future.done, "answer")
    answered_s, before = time.monotonic() - began_s, len(robot.commands)
    assert future.result().message == "stopped by ~/stop; ~/reset releases it"
    peer.wait_for(lambda: len(robot.commands) > before + 4, "commands")
    held = [np.allclose(command, PLACE, atol=1e-6) for command in robot.commands[before:]]
    print(f"answered after {1e3 * answered_s:.1f} ms, then {held.index(True)} more commands")
    assert answered_s < 0.4
    # One was under way; the next may go only so far, by the limits of its rate.
    assert all(held[2:]), "it went on for more than a control period"
    peer.wait_for(lambda: status[-1].mode == "fallback", "fallback")
    assert status[-1].reason == "stopped by ~/stop"

    # Neither time nor the node's states end it.
    assert change_state(peer, "policy_node", 4)
    assert change_state(peer, "policy_node", 3)
    peer.wait_for(lambda: status[-1].mode == "fallback", "fallback")
    assert change_state(peer, "policy_node", 4)
    assert change_state(peer, "policy_node", 2)
    assert change_state(peer, "policy_node", 1)
    assert change_state(peer, "policy_node", 3)
    peer.wait_for(lambda: status[-1].mode == "fallback", "fallback")
    sent = len(robot.commands)
    peer.spin_for(0.3)
    assert all(np.allclose(c, PLACE, atol=1e-6) for c in robot.commands[sent:])
    assert "fallback drives (stopped by ~/stop)" in load(peer, "arm").message
    assert ask(peer, "reset").success
    peer.wait_for(lambda: status[-1].mode == "active", "active again")
    peer.wait_for(lambda: len(robot.commands) > sent + 5, "commands")
    assert "Traceback" not in node.output()


def load(peer, name: str):
    from reptile_agent_msgs.srv import LoadBundle

    return peer.call(LoadBundle, "policy_node/load_bundle", LoadBundle.Request(name=name))


@pytest.mark.parametrize("folder", ["", "bundles"])
def test_without_an_absolute_folder_no_bundle_is_loaded(start_node, peer, folder):
    node = start_node("reptile_agent_ros.policy_node", bundles_folder=f"'{folder}'")
    configured = change_state(peer, "policy_node", 1)
    assert configured == (folder == "")
    if configured:
        answer = load(peer, "arm")
        assert not answer.success
        assert "bundles_folder is ''; set it" in answer.message
    else:
        assert "bundles_folder is 'bundles'; give an absolute path" in node.output()

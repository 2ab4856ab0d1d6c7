"""adapter_node keeps what it learned across kill -9, and does on request what it says."""

from __future__ import annotations

import signal
import time

import numpy as np
import pytest

from tests.ros.test_nodes import bring_up, change_state, latched, start_reference, statuses

JUDGED = ("error on held-out live data", "what would be done")
"""How the gate's sentences begin, whatever it says: what it judges is alive."""


def ask(peer, name: str, node: str = "adapter_node"):
    from std_srvs.srv import Trigger

    return peer.call(Trigger, f"{node}/{name}", Trigger.Request())


def freeze(peer, frozen: bool) -> None:
    from std_srvs.srv import SetBool

    assert peer.call(SetBool, "adapter_node/freeze", SetBool.Request(data=frozen)).success


def test_what_it_learned_survives_kill_9(start_node, peer, tmp_path):
    from reptile_agent_msgs.msg import AdaptationStatus

    status, adaptations = statuses(peer), latched(peer, AdaptationStatus, "adapter_node/status")
    folder = tmp_path / "state"
    start_node("reptile_agent_mujoco.mujoco_robot", publish_rate_hz=200.0)
    start_node("reptile_agent_ros.policy_node")
    kept = {"state_folder": str(folder), "consolidate_epsilon": 0.5}
    adapter = start_node("reptile_agent_ros.adapter_node", **kept)
    start_reference(start_node)
    bring_up(peer, "policy_node")
    bring_up(peer, "adapter_node")
    peer.wait_for(lambda: status[-1].parameters_version > 0, "adapted parameters in use", 40.0)
    assert "adapted.safetensors" in ask(peer, "save").message
    answer = ask(peer, "consolidate")
    assert answer.message.startswith(JUDGED)
    assert (folder / "start.safetensors").exists() == answer.success
    freeze(peer, True)
    peer.spin_for(0.6)
    before = len(adaptations)
    peer.spin_for(1.5)
    assert len(adaptations) == before, "frozen"
    freeze(peer, False)
    peer.wait_for(lambda: len(adaptations) > before, "it adapts again")
    adapter.kill()

    # By another name: for a while DDS takes the dead one's services for alive.
    name = {"__node": "later"}
    again = start_node("reptile_agent_ros.adapter_node", name, adapt_period_s=0.0, **kept)
    bring_up(peer, "later")
    assert "111 transitions restored" in again.output(), again.output()
    assert ("adaptations begin at" in again.output()) == answer.success
    restored = ask(peer, "restore", "later")
    assert any(sentence in restored.message for sentence in JUDGED)
    assert ask(peer, "reset", "later").success
    assert not (folder / "start.safetensors").exists()


def test_without_a_folder_or_an_epsilon_it_says_what_to_set(start_node, peer):
    start_node("reptile_agent_ros.adapter_node")
    bring_up(peer, "adapter_node")
    for name, sentence in (
        ("save", "state_folder is ''; set it"),
        ("restore", "state_folder is ''; set it"),
        ("consolidate", "consolidate_epsilon is 0; set it"),
    ):
        answer = ask(peer, name)
        assert not answer.success
        assert sentence in answer.message


def test_a_folder_that_cannot_be_trusted_does_not_configure(start_node, peer, tmp_path):
    node = start_node("reptile_agent_ros.adapter_node", state_folder="somewhere")
    assert not change_state(peer, "adapter_node", 1)
    assert "give an absolute path" in node.output()


def test_flooded_or_stopped_it_grows_no_more_and_control_goes_on(start_node, peer, arm_bundle):
    """A hundred times the data rate, then a process that hangs (SIGSTOP)."""
    import psutil
    from reptile_agent_msgs.msg import AdaptationStatus, Transition

    status, adaptations = statuses(peer), latched(peer, AdaptationStatus, "adapter_node/status")
    start_node("reptile_agent_mujoco.mujoco_robot", publish_rate_hz=200.0)
    start_node("reptile_agent_ros.policy_node")
    adapter = start_node("reptile_agent_ros.adapter_node")
    start_reference(start_node)
    bring_up(peer, "policy_node")
    bring_up(peer, "adapter_node")
    publisher = peer.node.create_publisher(Transition, "policy_node/transition", 200)
    peer.wait_for(publisher.get_subscription_count, "the adapter's subscription")
    rng, sent = np.random.default_rng(0), 0
    message = Transition(
        observation=rng.uniform(-0.1, 0.1, 10).astype(np.float32).tolist(),
        action=rng.uniform(-0.1, 0.1, 5).astype(np.float32).tolist(),
        next_observation=rng.uniform(-0.1, 0.1, 10).astype(np.float32).tolist(),
        start_sha256=arm_bundle.manifest.start_sha256,
    )

    def flood(seconds: float) -> int:
        nonlocal sent
        began, before = time.monotonic(), sent
        while (elapsed := time.monotonic() - began) < seconds:
            for _ in range(round(2500 * elapsed) - (sent - before)):
                sent += 1
                message.step = sent
                publisher.publish(message)
            peer.spin_for(0.01)
        return sent - before

    flood(2.0)
    process = psutil.Process(adapter.process.pid)
    memory, ticks, began = process.memory_info().rss, status[-1].ticks, time.monotonic()
    assert flood(4.0) > 4000
    rate_hz = (status[-1].ticks - ticks) / (time.monotonic() - began)
    assert process.memory_info().rss - memory < 8 * 2**20
    assert rate_hz == pytest.approx(25, rel=0.2)
    process.send_signal(signal.SIGSTOP)
    ticks, began = status[-1].ticks, time.monotonic()
    flood(2.0)
    rate_hz = (status[-1].ticks - ticks) / (time.monotonic() - began)
    assert rate_hz == pytest.approx(25, rel=0.2)
    assert status[-1].mode == "active"
    told = len(adaptations)
    process.send_signal(signal.SIGCONT)
    peer.wait_for(lambda: len(adaptations) > told, "a verdict once it goes on", 30.0)
    assert status[-1].mode == "active"
    flood(0.5)
    assert change_state(peer, "adapter_node", 4)
    flood(0.5)  # what waits in the queue belongs to nobody once it is cleaned up
    assert change_state(peer, "adapter_node", 2)
    assert change_state(peer, "adapter_node", 1), adapter.output()
    assert "Traceback" not in adapter.output()

"""While adapter_node learns it goes on listening: what ends an adaptation is heard at once."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from bench.faults.nodes import bring_up, change_state, latched

STEPS = 1000
"""Of a goal that would take a second and more; the feedback says how far it came."""
FIRST, MORE = 70, 40
"""Transitions; the adapter holds 111."""
AT_ONCE_S = 0.4
"""An answer takes a few ms; so long on a machine that has other things to do."""
GOAL_CANCELED, GOAL_ABORTED = 5, 6


class Rig:
    """adapter_node that only adapts on request, and a policy played by the test."""

    def __init__(self, start_node, peer, bundle, **parameters) -> None:
        from rclpy.action import ActionClient
        from rclpy.qos import QoSProfile
        from reptile_agent_msgs.action import Adapt
        from reptile_agent_msgs.msg import AdaptationStatus, Parameters, Transition
        from std_srvs.srv import SetBool

        self.peer, self._goal = peer, Adapt.Goal
        self._transition, self._rng = Transition, np.random.default_rng(0)
        self.sha256, self.sent = bundle.manifest.start_sha256, 0
        self.verdicts = latched(peer, AdaptationStatus, "adapter_node/status")
        self.offers = latched(peer, Parameters, "adapter_node/parameters")
        self.steps: list[int] = []
        settings = {"adapt_period_s": 0.0, "budget_s": 60.0} | parameters
        self.node = start_node("reptile_agent_ros.adapter_node", **settings)
        bring_up(peer, "adapter_node")
        self.client = ActionClient(peer.node, Adapt, "adapter_node/adapt")
        self.freezer = peer.node.create_client(SetBool, "adapter_node/freeze")
        self._publisher = peer.node.create_publisher(
            Transition, "policy_node/transition", QoSProfile(depth=200)
        )
        peer.wait_for(self.client.server_is_ready, "action server")
        peer.wait_for(self._publisher.get_subscription_count, "subscription")
        self.send(FIRST)

    def send(self, count: int) -> None:
        """Transitions of a robot that moves a little."""
        for _ in range(count):
            obs, action, after = (
                self._rng.uniform(-0.1, 0.1, size).astype(np.float32).tolist()
                for size in (10, 5, 10)
            )
            self.sent += 1
            self._publisher.publish(
                self._transition(
                    step=self.sent,
                    observation=obs,
                    action=action,
                    next_observation=after,
                    start_sha256=self.sha256,
                )
            )
            self.peer.spin_for(0.001)

    def ask(self, steps: int = STEPS):
        """Send a goal; returns its handle and the future of its result."""
        sent = self.client.send_goal_async(
            self._goal(steps=steps), lambda m: self.steps.append(m.feedback.step)
        )
        self.peer.wait_for(sent.done, "goal response")
        handle = sent.result()
        assert handle.accepted
        return handle, handle.get_result_async()

    def begin(self):
        """A long goal that is under way."""
        handle, result = self.ask()
        self.peer.wait_for(lambda: self.steps, "first step")
        return handle, result

    def timed(self, condition: Callable[[], object], what: str) -> float:
        began_s = time.monotonic()
        self.peer.wait_for(condition, what, 30.0)
        return time.monotonic() - began_s


@pytest.fixture
def rig(start_node, peer, arm_bundle):
    made = Rig(start_node, peer, arm_bundle)
    yield made
    made.client.destroy()


def freeze(rig: Rig, frozen: bool) -> float:
    """Freeze or thaw; returns the time to the answer [s]."""
    rig.peer.wait_for(rig.freezer.service_is_ready, "service")
    future = rig.freezer.call_async(rig.freezer.srv_type.Request(data=frozen))
    took_s = rig.timed(future.done, "answer")
    assert future.result().success
    return took_s


def test_a_cancelled_goal_ends_after_its_present_step(rig):
    _, whole = rig.ask()
    whole_s = rig.timed(whole.done, "result")
    assert whole.result().result.verdict != "cancelled"
    rig.peer.wait_for(lambda: rig.verdicts, "verdict")
    rig.steps.clear()
    handle, result = rig.begin()
    cancelled = handle.cancel_goal_async()
    took_s = rig.timed(result.done, "result")
    print(f"{STEPS} steps: {whole_s:.2f} s; cancelled: {1e3 * took_s:.0f} ms")
    assert cancelled.result().return_code == 0
    answer = result.result()
    assert (answer.status, answer.result.verdict) == (GOAL_CANCELED, "cancelled")
    assert not answer.result.accepted
    assert took_s < min(AT_ONCE_S, 0.5 * whole_s)
    assert 0 < len(rig.steps) < STEPS / 2
    rig.peer.wait_for(lambda: len(rig.verdicts) == 2, "verdict")
    assert (rig.verdicts[-1].verdict, rig.verdicts[-1].accepted) == ("cancelled", False)
    _, again = rig.ask(steps=2)
    rig.peer.wait_for(again.done, "result")
    assert again.result().result.verdict != "cancelled", "a cancellation is not for the next"


def test_a_goal_that_waits_can_be_cancelled_before_it_begins(rig):
    first, ended = rig.begin()
    second, waiting = rig.ask()
    rig.peer.wait_for(second.cancel_goal_async().done, "cancel response")
    rig.peer.wait_for(first.cancel_goal_async().done, "cancel response")
    rig.peer.wait_for(lambda: ended.done() and waiting.done(), "both results")
    assert waiting.result().status == GOAL_CANCELED
    assert waiting.result().result.reason == "it was cancelled after 0 steps"


def test_freeze_is_answered_at_once_and_nothing_is_learned(rig):
    _, result = rig.begin()
    answered_s = freeze(rig, True)
    rig.peer.wait_for(result.done, "result")
    print(f"freeze answered after {1e3 * answered_s:.0f} ms, {len(rig.steps)} steps")
    assert answered_s < AT_ONCE_S
    answer = result.result()
    assert (answer.status, answer.result.verdict) == (GOAL_ABORTED, "cancelled")
    assert len(rig.steps) < STEPS / 2
    _, refused = rig.ask()
    rig.peer.wait_for(refused.done, "result")
    assert "frozen; thaw it first" in refused.result().result.reason
    assert rig.offers == []
    freeze(rig, False)
    _, again = rig.ask(steps=2)
    rig.peer.wait_for(again.done, "result")
    assert again.result().result.verdict not in ("refused", "cancelled")


def test_what_comes_while_it_learns_is_the_next_ones(rig):
    """A verdict says how many it held as it began; none of those that came since was lost."""
    handle, result = rig.begin()
    steps = len(rig.steps)
    rig.send(MORE)
    rig.peer.spin_for(0.1)
    assert not result.done(), "it was to learn all the time"
    assert len(rig.steps) > steps
    handle.cancel_goal_async()
    rig.peer.wait_for(result.done, "result")
    rig.peer.wait_for(lambda: rig.verdicts, "verdict")
    assert rig.verdicts[-1].window == FIRST
    _, after = rig.ask(steps=2)
    rig.peer.wait_for(after.done, "result")
    rig.peer.wait_for(lambda: len(rig.verdicts) > 1, "verdict")
    assert rig.verdicts[-1].window == FIRST + MORE


@pytest.mark.parametrize(
    "transitions", [[4, 2], [4], [7]], ids=["clean_up", "deactivate", "shut_down"]
)
def test_a_transition_of_the_life_cycle_ends_what_is_learned(rig, transitions):
    _, result = rig.begin()
    began_s = time.monotonic()
    for number in transitions:
        assert change_state(rig.peer, "adapter_node", number)
    assert time.monotonic() - began_s < 2 * AT_ONCE_S
    rig.peer.spin_for(0.5)
    assert rig.offers == []
    assert rig.node.process.poll() is None, rig.node.output()
    assert "Traceback" not in rig.node.output()
    if transitions == [4]:
        assert result.result().result.verdict == "cancelled"


def test_what_asks_the_gate_ends_what_is_learned(start_node, peer, arm_bundle, tmp_path):
    """restore looks with the same eyes: it cancels first, and the goal after it is served."""
    from std_srvs.srv import Trigger

    rig = Rig(start_node, peer, arm_bundle, state_folder=tmp_path / "state")
    assert peer.call(Trigger, "adapter_node/save", Trigger.Request()).success
    _, result = rig.begin()
    _, after = rig.ask(steps=2)
    restored = peer.call(Trigger, "adapter_node/restore", Trigger.Request())
    assert "held-out" in restored.message or "plan" in restored.message, restored.message
    peer.wait_for(lambda: result.done() and after.done(), "both results")
    assert result.result().result.verdict == "cancelled"
    assert after.result().result.verdict not in ("refused", "cancelled")
    rig.client.destroy()

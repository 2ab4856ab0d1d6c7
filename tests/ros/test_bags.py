"""A robot that adapts is recorded, and its bag gives the same adaptations to the bit."""

from __future__ import annotations

import json

import pytest
from recorder import Recorder

from bench.faults.nodes import bring_up, latched
from reptile_agent import cli
from tests.ros.played_robot import start_reference

TOPICS = {
    "policy_node/transition": "Transition",
    "policy_node/status": "PolicyStatus",
    "adapter_node/status": "AdaptationStatus",
    "adapter_node/parameters": "Parameters",
}


@pytest.mark.slow
@pytest.mark.parametrize(("space", "plugin"), [("", "MCAP"), ("left/", "SQLITE3")])
def test_what_adapter_node_did_comes_out_of_the_bag(
    start_node, peer, arm_bundle_path, tmp_path, capsys, space, plugin
):
    """With a fault on the way, adaptations on request, and another step size from then on."""
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter
    from reptile_agent_msgs.action import Adapt
    from reptile_agent_msgs.msg import AdaptationStatus
    from reptile_agent_msgs.srv import InjectFault

    bag, adaptations = (
        tmp_path / "bag",
        latched(peer, AdaptationStatus, space + "adapter_node/status"),
    )
    topics = {f"/{space}{topic}": kind for topic, kind in TOPICS.items()}
    recorder = Recorder(peer, bag, topics, plugin)
    remap = {"__ns": "/" + space.strip("/")} if space else None
    start_node("reptile_agent_mujoco.mujoco_robot", remap, publish_rate_hz=200.0)
    start_node("reptile_agent_ros.policy_node", remap)
    start_node("reptile_agent_ros.adapter_node", remap, seed=3, inner_lr=0.1)
    start_reference(start_node, remap)
    bring_up(peer, space + "policy_node")
    bring_up(peer, space + "adapter_node")
    peer.wait_for(lambda: len(adaptations) >= 3, "adaptations", 30.0)
    fault = InjectFault.Request(names=["gain_elbow_flex"], values=[0.4])
    assert peer.call(InjectFault, space + "mujoco_robot/inject_fault", fault).success
    for steps, start, window in ((3, Adapt.Goal.LAST, 60), (0, "", 0)):
        ask(peer, space, Adapt.Goal(steps=steps, start=start, window=window))
    slower = Parameter("inner_lr", value=0.03).to_parameter_msg()
    changed = SetParameters.Request(parameters=[slower])
    answer = peer.call(SetParameters, space + "adapter_node/set_parameters", changed)
    assert answer.results[0].successful, answer.results[0].reason
    seen = len(adaptations)
    peer.wait_for(lambda: len(adaptations) >= seen + 5, "adaptations after the fault", 20.0)
    assert {one.inner_lr for one in adaptations} == {0.1, 0.03}
    recorder.close()

    arguments = [str(bag), "--bundle", str(arm_bundle_path), "--seed", "3", "--json"]
    arguments += ["--out", str(tmp_path / "picture.png")]
    with pytest.raises(SystemExit) as stop:
        cli.main(["adapt-bag", *arguments])
    assert stop.value.code == 0
    found = json.loads(capsys.readouterr().out)
    rows = found["adaptations"]
    assert found["repeated"]
    assert len(rows) >= seen + 4, "the recorder may not have heard the last one"
    assert [row["differs"] for row in rows] == [""] * len(rows)
    assert [row["verdict"] for row in rows] == [row["robot_verdict"] for row in rows]
    assert 3 in [row["steps"] for row in rows]
    assert "accepted" in [row["verdict"] for row in rows]


def ask(peer, space: str, goal) -> None:
    """Have `~/adapt` served."""
    from rclpy.action import ActionClient
    from reptile_agent_msgs.action import Adapt

    client = ActionClient(peer.node, Adapt, space + "adapter_node/adapt")
    peer.wait_for(client.server_is_ready, "the action")
    sent = client.send_goal_async(goal)
    peer.wait_for(sent.done, "the goal's acceptance")
    result = sent.result().get_result_async()
    peer.wait_for(result.done, "the result")
    assert result.result().result.verdict != "refused"
    client.destroy()

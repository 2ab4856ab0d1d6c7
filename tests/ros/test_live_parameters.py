"""Some parameters of adapter_node change while it runs; what is out of reason changes nothing."""

from __future__ import annotations

from test_adapter_listens import Rig


def setter(peer, **values: object):
    """Set parameters of adapter_node; returns the results, by name."""
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter

    wanted = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
    request = SetParameters.Request(parameters=wanted)
    answer = peer.call(SetParameters, "adapter_node/set_parameters", request)
    return dict(zip(values, answer.results, strict=True))


def test_what_is_set_is_what_the_next_adaptation_does(start_node, peer, arm_bundle):
    from rcl_interfaces.srv import DescribeParameters
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from reptile_agent_msgs.msg import PolicyStatus

    rig = Rig(start_node, peer, arm_bundle)

    def adapt():
        seen = len(rig.verdicts)
        _, result = rig.ask(steps=0)
        peer.wait_for(result.done, "result")
        peer.wait_for(lambda: len(rig.verdicts) > seen, "verdict")
        return rig.verdicts[-1]

    default = arm_bundle.manifest.adaptation
    before = adapt()
    assert (before.asked_steps, before.inner_lr) == (default.inner_steps, default.inner_lr)
    assert before.asked_start == default.start == "start"
    results = setter(peer, inner_lr=0.015, inner_steps=3, budget_s=0.5, start="last")
    assert all(result.successful for result in results.values()), results
    after = adapt()
    assert (after.asked_steps, after.inner_lr, after.stop) == (3, 0.015, "done")
    assert after.asked_start == "last"
    words = "3 inner steps of 0.015 from the last on request, within 0.5 s"
    assert words in rig.node.output()

    wrong = {
        "inner_lr": (float("nan"), 10.0, -0.1, "fast"),
        "inner_steps": (-1, 1001),
        "adapt_period_s": (-1.0, 1e-6, float("inf")),
        "budget_s": (0.0, float("nan")),
        "start": ("middle", 1),
        "nice": (5,),
    }
    for name, values in wrong.items():
        for value in values:
            result = setter(peer, **{name: value})[name]
            assert not result.successful, (name, value)
            assert result.reason
    assert "set 0.01 or more" in setter(peer, adapt_period_s=1e-6)["adapt_period_s"].reason
    same = adapt()
    assert (same.asked_steps, same.inner_lr) == (3, 0.015)

    setter(peer, inner_lr=0.0, inner_steps=0)
    back = adapt()
    assert (back.asked_steps, back.inner_lr) == (default.inner_steps, default.inner_lr)

    # On request only until now; then by itself.
    qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    active = peer.node.create_publisher(PolicyStatus, "policy_node/status", qos)
    peer.wait_for(active.get_subscription_count, "subscription")
    active.publish(PolicyStatus(mode="active", parameters_sha256=rig.sha256))
    seen = len(rig.verdicts)
    rig.send(30)
    peer.spin_for(0.5)
    assert len(rig.verdicts) == seen
    assert setter(peer, adapt_period_s=0.1)["adapt_period_s"].successful
    peer.wait_for(lambda: len(rig.verdicts) > seen, "an adaptation by itself", 5.0)

    names = ["inner_lr", "inner_steps", "adapt_period_s", "budget_s", "nice"]
    request = DescribeParameters.Request(names=names)
    described = peer.call(DescribeParameters, "adapter_node/describe_parameters", request)
    for one in described.descriptors:
        assert one.description
        assert one.floating_point_range or one.integer_range, "rqt_reconfigure draws a slider"
        assert one.read_only == (one.name == "nice")
    rig.client.destroy()

"""Bundles whose learner acts by a policy, on the nodes: they drive, and adapt behind the gate."""

from __future__ import annotations

import numpy as np
import pytest
from played_robot import start_reference

from bench.faults.nodes import bring_up, latched, statuses


@pytest.mark.parametrize("learner", ["actor_critic", "model_policy"])
def test_the_nodes_run_a_policy_and_judge_its_adaptations(
    start_node, peer, policy_bundle_path, short_arm, learner
):
    import torch
    from reptile_agent_msgs.msg import AdaptationStatus, Transition

    path, transitions = policy_bundle_path(learner), []
    status, adaptations = statuses(peer), latched(peer, AdaptationStatus, "adapter_node/status")
    peer.node.create_subscription(Transition, "policy_node/transition", transitions.append, 50)
    start_node("reptile_agent_mujoco.mujoco_robot", publish_rate_hz=200.0)
    start_node("reptile_agent_ros.policy_node", bundle=path)
    start_node("reptile_agent_ros.adapter_node", bundle=path)
    start_reference(start_node)
    bring_up(peer, "policy_node")
    bring_up(peer, "adapter_node")
    peer.wait_for(lambda: adaptations, "a verdict", 30.0)
    verdict = adaptations[-1]
    assert verdict.verdict not in ("", "cancelled", "not_finite"), verdict.reason
    assert verdict.steps > 0
    assert np.isfinite([verdict.live_before, verdict.live_after, verdict.rehearsal_after]).all()
    assert status[-1].mode == "active", status[-1].reason

    seen = transitions[-1]
    reference = np.reshape(seen.reference, (2, 5))
    now, sent, after = seen.observation, seen.action, seen.next_observation
    arrays = (np.array(x, np.float32) for x in (now, sent, after, reference[0]))
    wanted = float(short_arm.reward(*map(torch.from_numpy, arrays)))
    if learner == "model_policy":
        wanted = -float(np.abs(np.array(after[:5]) - reference[0]).mean())
    assert seen.reward == pytest.approx(wanted, rel=1e-3)

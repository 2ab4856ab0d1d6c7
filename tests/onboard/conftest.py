"""A robot that changed, and an adapter that has seen it."""

from __future__ import annotations

import numpy as np
import pytest

from reptile_agent.onboard.adapter import Adapter
from reptile_agent.transition import Transition

FAULT = {"gain_shoulder_lift": 0.3, "gain_elbow_flex": 0.4, "payload_kg": 0.2}


@pytest.fixture(scope="session")
def changed_robot(short_arm) -> list[Transition]:
    """What a faulty arm did in 120 periods of shaky commands."""
    sim, rng = short_arm.make_sim([FAULT]), np.random.default_rng(0)
    obs, found, noise = sim.reset(seed=1), [], np.zeros((1, 5))
    for t in range(120):
        noise = 0.8 * noise + 0.06 * rng.standard_normal((1, 5))
        reference = sim.reference(short_arm.plan_horizon)
        action = (reference[:, 0] + noise).astype(np.float32)
        after, reward, *_ = sim.step(action)
        first = np.array([t == 0])
        found.append(Transition(obs, action, after, reward, first, reference=reference))
        obs = after
    return found


@pytest.fixture
def adapter(bundle, changed_robot) -> Adapter:
    made = Adapter(bundle, seed=0)
    for transition in changed_robot[:80]:
        made.remember(transition)
    return made

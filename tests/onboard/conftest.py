"""A robot that changed, and an adapter that has seen it."""

from __future__ import annotations

import pytest

from reptile_agent.onboard.adapter import Adapter
from reptile_agent.transition import Transition


@pytest.fixture(scope="session")
def changed_robot(short_arm, shaken) -> list[Transition]:
    """What a faulty arm did in 120 periods of shaky commands."""
    return shaken(short_arm, 120)


@pytest.fixture
def adapter(bundle, changed_robot) -> Adapter:
    made = Adapter(bundle, seed=0)
    for transition in changed_robot[:80]:
        made.remember(transition)
    return made

"""What an outer step learns from, of learners whose policy moves in some inner steps alone."""

from __future__ import annotations

import dataclasses

import pytest
from tiny import TINY, ShortCartpole, snapshot

from reptile_agent.meta.trainer import Trainer


@pytest.fixture
def family() -> ShortCartpole:
    return ShortCartpole()


@pytest.mark.parametrize("algorithm", ["reptile", "fomaml", "maml", "joint"])
@pytest.mark.parametrize("learner", ["model_policy", "actor_critic"])
def test_every_algorithm_learns_a_policys_start(family, learner, algorithm):
    config = dataclasses.replace(TINY, learner=learner, algorithm=algorithm, query_steps=1)
    trainer = Trainer(family, config)
    for _ in trainer.run():
        if trainer.state.round == 1 and trainer.state.iteration == config.fit_iterations:
            before = snapshot(trainer)
    after = snapshot(trainer)
    policy = [name for name in before if name.startswith("policy.w")]
    assert policy
    assert all((before[name] != after[name]).any() for name in policy)


def test_a_policy_that_no_inner_step_would_move_is_refused(family):
    config = dataclasses.replace(TINY, learner="model_policy", train_inner_steps=1)
    with pytest.raises(ValueError, match=r"the policy moves; got 1 and 1"):
        Trainer(family, dataclasses.replace(config, algorithm="fomaml"))
    Trainer(family, config)  # Reptile's queries are further steps

"""reptile_agent.meta.kept_contexts: inner loops that go on where a task's last one ended."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch
from test_guide import TINY
from toy import Toy

from reptile_agent.meta.inner_loop import InnerOptimizer, adapt_tasks, step_sizes
from reptile_agent.meta.kept_contexts import KeptContexts
from reptile_agent.meta.trainer import Trainer

# Three equal numbers of float32 seldom have themselves as their mean.
KEEPING = dataclasses.replace(TINY, algorithm="reptile", keep=0.8, iterations=6, meta_batch=3)


class Pull:
    """Loss of which a step moves the context by its learning rate times the batch's mean."""

    def loss(self, params, batch):
        return (params["context"] * batch["x"].mean()).sum() + 0.0 * params["w"].sum()

    def after_step(self, params):
        return params


def test_who_is_kept_goes_on_and_the_others_begin_anew():
    start = {"context": torch.zeros(2, 1, 3), "w": torch.ones(4)}
    contexts = KeptContexts.begin(start, 5)
    batches = {"x": torch.full((2, 1, 7), -1.0)}
    optimizer = InnerOptimizer(clip_norm=0)
    seen = []

    def adapt(learner, how, params, found, lr, *, stacked):
        assert stacked
        adapted, info = adapt_tasks(learner, how, params, found, lr, stacked=True)
        seen.append(adapted["context"].flatten(1).mean(1).tolist())
        return adapted, info

    for _ in range(3):
        on = contexts.keeping(adapt, np.array([3, 1]), np.array([True, False]))
        adapted, _ = on(Pull(), optimizer, start, batches, step_sizes(start, 0.1))
        torch.testing.assert_close(adapted["w"], torch.ones(2, 4))
    np.testing.assert_allclose(seen, [[0.1, 0.1], [0.2, 0.1], [0.3, 0.1]], rtol=1e-5)
    np.testing.assert_allclose(contexts.value.flatten(1).mean(1), [0, 0, 0, 0.3, 0], rtol=1e-5)


def test_the_tasks_contexts_move_and_the_starts_does_not(robot):
    trainer = Trainer(Toy(robot), KEEPING)
    for doing in trainer.run():
        if "fitting" in doing:
            fitted = trainer.params["context"].clone()
    assert torch.equal(trainer.params["context"], fitted)
    assert trainer.state.contexts is not None
    moved = (trainer.state.contexts.value - fitted).flatten(1).norm(dim=1)
    assert (moved > 0).sum() > 1


def test_a_run_that_keeps_contexts_resumes_to_the_bit(robot, tmp_path):
    def states(trainer, stop=None):
        for number, _ in enumerate(trainer.run()):
            if number == stop:
                trainer.save(tmp_path / "state")
        return trainer.state

    whole = Trainer(Toy(robot), KEEPING)
    last = sum(1 for _ in Trainer(Toy(robot), KEEPING).run()) - 1
    expected = states(whole, stop=last - 2)
    found = states(Trainer.resume(Toy(robot), tmp_path / "state"))
    assert torch.equal(found.contexts.value, expected.contexts.value)
    assert all(torch.equal(found.params[n], v) for n, v in expected.params.items())


@pytest.mark.parametrize(
    "changes",
    [
        {"keep": -0.1},
        {"keep": 1.0},
        {"algorithm": "joint"},
        {"learner": "model_policy"},
        {"model": dataclasses.replace(TINY.model, context=0)},
        {"learn_lr": 0.1},
    ],
)
def test_nothing_is_kept_where_there_is_no_inner_loop_with_a_context(changes, robot):
    with pytest.raises(ValueError, match=re.escape("keep must be 0 or more and below 1")):
        Trainer(Toy(robot), dataclasses.replace(KEEPING, **changes))

"""Losses that are not finite stop a run, with all that led there."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tiny import TINY, ShortCartpole

from reptile_agent.meta import trainer as trainer_module
from reptile_agent.meta.finite import LossNotFinite
from reptile_agent.meta.meta_batch import meta_batch
from reptile_agent.meta.trainer import Trainer


@pytest.fixture
def family() -> ShortCartpole:
    return ShortCartpole()


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"fit_lr": 1e30}, "fit/loss at step 1"),
        ({"lr_scale": {"w": 1e30}}, "meta/after at step 12"),
        # No loss is looked at after the step that goes wrong here.
        (
            {"lr_scale": {"": 1e40}, "train_inner_steps": 1, "query_steps": 0},
            "meta/direction of w0",
        ),
        ({"algorithm": "maml", "lr_scale": {"w": 1e30}}, "meta/after at step 12"),
    ],
    ids=["fit", "reptile", "reptile's last step", "maml"],
)
def test_a_loss_that_is_not_finite_stops_the_run_with_its_minibatch(family, changes, where):
    trainer = Trainer(family, dataclasses.replace(TINY, **changes))
    with pytest.raises(LossNotFinite, match=f"{where}.* is not finite") as stop:
        for _ in trainer.run():
            pass
    assert all(value.isfinite().all() for value in trainer.params.values())
    batch = stop.value.batch
    assert {"obs", "action", "next_obs", "weight"} <= set(batch)
    assert all(np.isfinite(value).all() for value in batch.values())
    for name, value in trainer.params.items():
        np.testing.assert_array_equal(batch[f"params.{name}"], value)


def test_a_post_mortem_holds_the_queries_and_what_the_step_began_at(family, monkeypatch):
    def planted(*args):
        lanes, support, query = meta_batch(*args)
        query["obs"][0, 0, 0, 0] = torch.nan
        return lanes, support, query

    monkeypatch.setattr(trainer_module, "meta_batch", planted)
    trainer = Trainer(family, dataclasses.replace(TINY, algorithm="fomaml", learn_lr=0.1))
    with pytest.raises(LossNotFinite, match="meta/after") as stop:
        for _ in trainer.run():
            pass
    batch = stop.value.batch
    assert [name for name, value in batch.items() if not np.isfinite(value).all()] == ["query.obs"]
    assert {f"log_lr.{name}" for name in trainer.params} <= set(batch)

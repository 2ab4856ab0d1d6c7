"""Settings that no training can run with are refused by name."""

from __future__ import annotations

import dataclasses

import pytest
from tiny import TINY, ShortCartpole

from reptile_agent.meta import on_policy_config, train_config
from reptile_agent.meta.bounds import check_bounds
from reptile_agent.meta.inner_loop import InnerOptimizer
from reptile_agent.meta.on_policy_config import OnPolicyConfig
from reptile_agent.meta.trainer import Trainer
from sim.families.point_nav import PointNav


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epsilon": -1.0}, "epsilon must be above 0, got -1"),
        ({"fit_lr": float("nan")}, "fit_lr must be finite, got nan"),
        ({"epsilon": float("inf")}, "epsilon must be finite, got inf"),
        ({"lr_scale": {"w": -1.0}}, "lr_scale must be at least 0, got -1"),
        ({"inner": InnerOptimizer("adam", beta2=1.0)}, r"inner\.beta2 must be at most 0\.99"),
        ({"meta_batch": 0}, "meta_batch must be at least 1, got 0"),
        (
            {"model": dataclasses.replace(TINY.model, members=0)},
            r"model\.members must be at least 1",
        ),
        ({"model": dataclasses.replace(TINY.model, hidden=(8, 0))}, r"model\.hidden must be"),
    ],
)
def test_a_setting_that_cannot_be_is_named_before_anything_is_simulated(changes, said):
    with pytest.raises(ValueError, match=said):
        Trainer(ShortCartpole(), dataclasses.replace(TINY, **changes))


def test_a_setting_of_policy_gradients_too():
    with pytest.raises(ValueError, match="episodes must be at least 1, got 0"):
        OnPolicyConfig(episodes=0).tasks(PointNav())


@pytest.mark.parametrize("config", [TINY, OnPolicyConfig()], ids=["replay", "on policy"])
def test_every_bound_is_of_a_setting_that_there_is(config):
    module = train_config if config is TINY else on_policy_config
    check_bounds(config, module.LEAST, module.ABOVE, module.MOST)

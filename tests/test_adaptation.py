"""reptile_agent.adaptation: the numbers of the inner loop."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from reptile_agent.adaptation import AdaptationConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("inner_steps", 0),
        ("inner_lr", 0.0),
        ("inner_lr", math.nan),
        ("batch", 0),
        ("tau", 0.0),
        ("window", 1),
        ("holdout", -1),
        ("max_distance", 0.0),
        ("max_distance", math.nan),
        ("projection_radius", 0.0),
        ("projection_radius", math.nan),
        ("projection_radius", 3.0),
        ("margin", 1.0),
        ("start", "anywhere"),
        ("no_such_field", 1),
    ],
)
def test_a_value_out_of_reason_is_refused_by_its_name(field, value):
    with pytest.raises(ValidationError, match=field):
        AdaptationConfig(**{field: value})


def test_it_survives_json():
    config = AdaptationConfig(inner_lr=0.1 + 1e-17, tau=1 / 3)
    assert AdaptationConfig.model_validate_json(config.model_dump_json()) == config


def test_settings_are_changed_by_name():
    assert AdaptationConfig(inner_lr=0.1).changed({"inner_steps": 3}).inner_steps == 3
    with pytest.raises(ValueError, match=r"no setting 'inner_rl' \(it has: inner_s"):
        AdaptationConfig().changed({"inner_rl": 0.3})
    with pytest.raises(ValueError, match=r"^adaptation inner_lr: Input should be greater than 0$"):
        AdaptationConfig().changed({"inner_lr": -3})

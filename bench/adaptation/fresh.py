"""Settings for test tasks that no table was made with: what was seen before answers for nothing.

    python -m bench.adaptation --fresh
    python -m bench.adaptation.report --results docs/results/fresh.parquet --out docs/results/fresh

Meta-training, seeds and step sizes are those of the tables. To be run once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from bench.adaptation.settings import SETTINGS, VERDICT, OnPolicySetting, Setting

RADIUS = 2.0
"""Half of the half cheetah's updates were refused for being too far alone: chosen on `validation`
(docs/decisions/36)."""


def _fresh(
    family: str, tasks: int, methods: tuple[str, ...], radius: float | None = None
) -> Setting:
    """The tables' setting with the tasks that come after theirs, and no curves."""
    setting = SETTINGS[family]
    assert isinstance(setting, Setting)
    adaptation = setting.train.adaptation.model_copy(update={"projection_radius": radius})
    train = dataclasses.replace(setting.train, adaptation=adaptation)
    also = {"first_task": setting.tasks, "tasks": tasks, "curve_seeds": 0, "ungated_seeds": 0}
    also |= {"scratch": False, "oracle_seeds": 1, "other_seeds": 5}
    return dataclasses.replace(setting, train=train, methods=methods, **also)


FRESH: Mapping[str, Setting | OnPolicySetting] = {
    "half_cheetah": _fresh("half_cheetah", 16, (*VERDICT, "reptile_afresh"), RADIUS),
    "arm": _fresh("arm", 10, VERDICT),
}
"""Family -> how it is run."""

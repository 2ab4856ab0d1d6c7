"""Settings with next to nothing in them: to see that everything runs, not what comes out."""

from __future__ import annotations

import dataclasses

from bench.adaptation.settings import OnPolicySetting, Setting


def quickened(setting: Setting | OnPolicySetting) -> Setting | OnPolicySetting:
    """The same stations, all of them short."""
    if isinstance(setting, OnPolicySetting):
        sampling = dataclasses.replace(setting.train.sampling, episode_steps=5)
        short = dataclasses.replace(
            setting.train, iterations=1, meta_batch=2, episodes=2, sampling=sampling
        )
        return dataclasses.replace(setting, train=short, seeds=1, tasks=2)
    train_config = dataclasses.replace(
        setting.train,
        tasks=4,
        rounds=2,
        round_steps=40,
        fit_iterations=5,
        iterations=3,
        meta_batch=2,
        samples=4,
        adaptation=setting.train.adaptation.model_copy(update={"batch": 8, "window": 20}),
        query_window=10,
        compiled=False,
    )
    return dataclasses.replace(
        setting,
        train=train_config,
        seeds=1,
        curve_seeds=1,
        tasks=2,
        periods=40,
        judged_from=25,
        windows=(10,),
        fault_at=30,
        oracle_steps=4,
    )

"""bench.adaptation.tune: as many trials for every method, and what wins."""

from __future__ import annotations

import dataclasses
import json
import math

import pandas as pd
import pytest

from bench.adaptation import on_policy, tune
from bench.adaptation.methods import Start
from bench.adaptation.settings import EPSILON, INNER_LR, ON_POLICY_EPSILON, SETTINGS, Tuned
from reptile_agent.meta.finite import LossNotFinite
from sim import registry


@pytest.mark.parametrize(("best", "beyond"), [(0.005, [0.005]), (0.12, []), (0.5, [0.5])])
def test_beyond_the_best_inner_step_size_another_is_tried(best, beyond, monkeypatch):
    """Returns fall with the ratio to the best one, whatever the outer one is."""
    monkeypatch.setattr(tune, "finish", lambda *args: Start("joint", args[-1], 0, 0.0))
    monkeypatch.setattr(
        tune,
        "judge",
        lambda *args: [{"episode_return": -abs(math.log(args[2].inner_lr / best))}],
    )
    shared = Start("shared", None, 0, 0.0)
    trials = tune._tune_planner(registry.get("arm"), SETTINGS["arm"], shared, "joint")
    usual = [t["inner_lr"] for t in trials if t["epsilon"] == SETTINGS["arm"].train.epsilon]
    assert usual == [*INNER_LR, *beyond]
    assert {t["inner_lr"] for t in trials[len(usual) :]} == {best}
    assert len(trials) == len(usual) + len(EPSILON)


@pytest.mark.parametrize(
    ("family", "method", "message"),
    [
        ("arm", "promp", "arm has no method promp (it has: joint, reptile, fomaml, maml)"),
        ("point_nav", "scratch", "point_nav has no method scratch (it has: joint, reptile"),
        ("cartpole", "joint", "no settings for cartpole (there are: arm"),
    ],
)
def test_what_does_not_exist_is_not_tuned(family, method, message, tmp_path, capsys):
    args = tune.Args(families=(family,), methods=(method,), out=tmp_path / "trials.json")
    assert tune.main(args) == 2
    assert message in capsys.readouterr().out
    assert not args.out.exists()


def test_every_method_of_policy_gradients_gets_as_many_trials(tmp_path, monkeypatch):
    """All runs come to the same: six, and one more where the best is an edge."""
    args = tune.Args(families=("point_nav",), out=tmp_path / "trials.json", quick=True)
    assert tune.main(args) == 0
    trials = pd.DataFrame(json.loads(args.out.read_text())["point_nav"])
    assert set(trials.method) == set(on_policy.TUNED)
    assert not trials.duplicated(["method", "inner_lr", "epsilon"]).any()
    for method, of in trials.groupby("method"):
        outer = of[of.inner_lr == 0.1].set_index("epsilon")["mean"]
        if method in ("rl2", "oracle"):
            assert set(outer.index) == set(ON_POLICY_EPSILON)
            continue
        between = outer[list(ON_POLICY_EPSILON[1:-1])]
        edge = between.idxmax() in (1e-3, 3e-2)
        assert len(outer) == 4 + edge
        assert set(of[of.inner_lr != 0.1].epsilon) == {outer.idxmax()}
        assert len(of) == 6 + edge
    # Tuning again replaces the trials of what was tuned again, and nothing else.
    again = dataclasses.replace(args, methods=("joint",))
    assert tune.main(again) == 0
    assert len(json.loads(args.out.read_text())["point_nav"]) == len(trials)


def test_a_trial_whose_loss_is_no_number_is_the_worst(capsys):
    def returns(tuned):
        if tuned.epsilon > 1:
            raise LossNotFinite("a loss", {})
        return [float("nan")] if tuned.epsilon == 1 else [-1e9]

    trials = tune.Trials("arm", "joint", returns)
    sizes = [Tuned(0.1, 2.0), Tuned(0.1, 1.0), Tuned(0.1, 0.5)]
    assert trials.best(sizes) == sizes[2]
    assert trials.best([*sizes, Tuned(0.1, 3.0)]) == sizes[2]
    assert trials.found[0]["mean"] is None
    assert len(trials.found) == 4, "none is tried twice"
    assert "a loss" in capsys.readouterr().out

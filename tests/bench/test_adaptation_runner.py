"""bench.adaptation: hardly any training of one family of each kind, and a report made of it."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from bench.adaptation import noise_floor, on_policy, report, scores
from bench.adaptation.__main__ import Args, main, merge, part_name, run_seed
from bench.adaptation.comparison import Arm, Comparison
from bench.adaptation.fresh import FRESH
from bench.adaptation.judging import Condition, Tasks, conditions, judge, judge_simulator
from bench.adaptation.methods import experience, finish, scratch
from bench.adaptation.quick import quickened
from bench.adaptation.settings import (
    METHODS,
    SETTINGS,
    SPLITS,
    VERDICT,
    OnPolicySetting,
    Setting,
    Tuned,
)
from reptile_agent.meta.on_policy_config import OnPolicyConfig
from reptile_agent.task import Planning
from sim import registry


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Results of two families, and the arguments that made them."""
    folder = tmp_path_factory.mktemp("adaptation")
    args = Args(("point_nav", "arm"), out=folder / "some.parquet", parts=folder, quick=True)
    assert main(args) == 0
    return args


@pytest.fixture
def rows(quick):
    return scores.read(quick.out)[0]


def test_every_method_is_judged_on_the_same_tasks(rows):
    counts = rows[rows.k == 0].groupby(["family", "method", "split"]).task.nunique()
    assert set(counts) == {2}
    planned, learned = (
        {method for name, method, _ in counts.index if name == family}
        for family in ("arm", "point_nav")
    )
    assert planned == {*SETTINGS["arm"].methods, "scratch", "oracle"}
    assert learned == set(on_policy.METHODS)
    assert {split for _, _, split in counts.index} == set(SPLITS)


def test_rows_of_policy_gradients(rows):
    rows = rows[rows.family == "point_nav"]
    assert set(rows.learner) == {"policy_gradient"}
    assert set(rows.gate) == {"off"}
    assert (rows.falls == 0).all()
    ks = rows.groupby("method").k.unique()
    assert list(ks["oracle"]) == [0]
    assert all(list(at) == [0, 1, 2, 5] for method, at in ks.items() if method != "oracle")
    # Two episodes of 5 steps of 0.1 s for each inner step.
    assert rows.seconds_of_data.to_numpy() == pytest.approx(rows.k.to_numpy() * 1.0)
    # A round of measuring and one of training, of 2 tasks x 2 episodes x 5 steps, before and after.
    steps = rows.groupby("method").train_env_steps.unique()
    expected = {"scratch": 20, "oracle": 30}
    assert all(list(n) == [expected.get(method, 60)] for method, n in steps.items())
    returns = rows.pivot_table(index=["split", "task"], columns="method", values="episode_return")
    assert (returns.nunique(axis=1) == len(returns.columns)).all()


def test_a_part_of_other_settings_or_splits_is_left(quick):
    setting = SETTINGS["arm"]
    name = part_name("arm", "0", setting, SPLITS)
    assert name == part_name("arm", "0", dataclasses.replace(setting, seeds=3), SPLITS)
    others = (
        part_name("arm", "0", setting, ("validation",)),
        part_name("arm", "0", quickened(setting), SPLITS),
        part_name("arm", "0", dataclasses.replace(setting, tasks=9), SPLITS),
    )
    assert len({name, *others}) == 4
    assert not list(quick.parts.glob(name))


@pytest.mark.parametrize(
    ("name", "later"),
    [
        ("arm", {"tried_plans": 1}),
        ("arm", {"keep": 0.5}),
        ("point_nav", {"outer": "sgd"}),
        ("point_nav", {"learn_lr": 0.1}),
    ],
)
def test_fields_that_came_later_void_nothing_while_they_change_nothing(name, later):
    """The hash is that of the results on file, which are older, and another once they are used."""
    metadata = pq.read_schema(report.RESULTS / "adaptation.parquet").metadata
    before = json.loads(metadata[b"settings"])[name]
    setting = SETTINGS[name]
    assert part_name(name, "0", setting, SPLITS) == f"{name}-0-{before}.parquet"
    used = dataclasses.replace(setting.train, **later)
    changed = dataclasses.replace(setting, train=used)
    assert part_name(name, "0", changed, SPLITS) != part_name(name, "0", setting, SPLITS)


def test_rows_that_are_done_are_not_made_again_and_others_are_the_same(quick, tmp_path, rows):
    (part,) = quick.parts.glob("point_nav-0-*.parquet")
    made = part.stat().st_mtime_ns
    assert main(quick) == 0
    assert part.stat().st_mtime_ns == made
    again = dataclasses.replace(
        quick, families=("point_nav",), parts=tmp_path, out=tmp_path / "again.parquet"
    )
    assert main(again) == 0
    same, first = (
        pq.read_table(path).drop_columns(["train_s"]).to_pandas()
        for path in (tmp_path / part.name, part)
    )
    pd.testing.assert_frame_equal(same, first)


def test_seeds_without_a_part_keep_their_rows_if_the_settings_are_the_same(quick, tmp_path):
    out = tmp_path / "all.parquet"
    (first,) = quick.parts.glob("point_nav-0-*.parquet")
    (arm,) = quick.parts.glob("arm-0-*.parquet")
    of_one = pq.read_table(first)
    other = tmp_path / "point_nav-1.parquet"
    seed = of_one.schema.get_field_index("seed")
    pq.write_table(of_one.set_column(seed, "seed", pa.array([1] * of_one.num_rows)), other)
    hashes = {"arm": "a", "point_nav": "b"}
    n, arms = of_one.num_rows, pq.read_table(arm).num_rows
    assert merge([first, arm], out, hashes) == {"arm": arms, "point_nav": n}
    assert merge([other], out, hashes) == {"arm": arms, "point_nav": 2 * n}
    assert merge([first], out, hashes) == {"arm": arms, "point_nav": 2 * n}
    assert merge([other], out, hashes | {"point_nav": "c"}) == {"arm": arms, "point_nav": n}
    assert pq.read_table(out)["seed"].unique().to_pylist() in ([1, 0], [0, 1])


def test_the_report_compares_each_learner_at_its_own_k(quick, tmp_path):
    report.write(report.Args(quick.out, tmp_path, reps=10))
    page = (tmp_path / "adaptation.md").read_text()
    few = "open: 1 of the 5 seeds that the protocol asks for"
    for split in SPLITS:
        assert f"| point_nav | policy_gradient | {split} | 1 | " in page
        assert f"| arm | dynamics | {split} | 10 | " in page
    assert few in page
    assert "## point_nav, policy_gradient" in page
    assert "point_nav, policy_gradient, in_range: 1 s of data" in page
    assert "against k; 1 s a step of data, gate off" in page
    assert "point_nav, policy_gradient: mean return (IQM of the score) against seconds" not in page
    assert not (tmp_path / "figures/point_nav-policy_gradient-seconds.png").exists()


def test_curves_on_policy_hold_every_k(rows):
    rows = rows[rows.family == "point_nav"]
    compared = Comparison("point_nav", "policy_gradient", rows, 1, 5.0, "off")
    at, values = compared.curve("in_range", "maml", "k", "episode_return")
    assert at == [0, 1, 2, 5]
    assert values.shape == (1, 2, 4)
    assert Arm("rl2", 1, "off") in compared.arms("in_range")
    assert [arm.method for arm in compared.arms("in_range") if arm.k == 0] == [*VERDICT, "oracle"]


def test_one_outer_step_is_as_long_as_several():
    setting = OnPolicySetting(OnPolicyConfig(epsilon=0.01, outer_steps=4))
    epsilons = {m: on_policy.config_of(setting, m, 3).epsilon for m in ("promp", "joint", "maml")}
    assert epsilons == {"promp": 0.01, "joint": 0.01, "maml": 0.04}
    assert on_policy.config_of(setting, "maml", 3).seed == 3


def test_rows_of_other_plans_or_of_another_method_are_others(monkeypatch):
    setting = SETTINGS["arm"]
    name = part_name("arm", "0", setting, SPLITS)
    other = dataclasses.replace(setting, also={"joint": {"outer": "sgd"}})
    assert part_name("arm", "0", other, SPLITS) != name
    rewarded = part_name("point_nav", "0", SETTINGS["point_nav"], SPLITS)
    for family in ("arm", "point_nav"):
        monkeypatch.setattr(type(registry.get(family)), "planning", Planning(smoothness=0.2))
    assert part_name("arm", "0", setting, SPLITS) != name
    # Nobody plans there.
    assert part_name("point_nav", "0", SETTINGS["point_nav"], SPLITS) == rewarded


def test_what_differs_for_a_method_is_trained_with():
    setting = dataclasses.replace(
        quickened(SETTINGS["arm"]), also={"reptile": {"keep": 0.5}, "joint": {"learn_lr": 0.1}}
    )
    shared = experience(registry.get("arm"), setting, 0, lambda _: None)
    done = [finish(shared, setting, m, lambda _: None, Tuned(0.1, 1e-3)) for m in VERDICT]
    found = {start.method: start.trainer.config for start in done}
    assert [(found[m].keep, found[m].learn_lr) for m in VERDICT] == [(0.0, 0.1), (0.5, 0.0)]


@pytest.mark.parametrize(
    ("method", "seed", "some", "ungated"),
    [
        ("reptile", 0, 9, True),
        ("joint", 1, 3, True),
        ("reptile", 2, 2, False),
        ("maml", 0, 2, False),
    ],
)
def test_seeds_without_curves_may_run_without_gate(method, seed, some, ungated):
    setting = Setting(SETTINGS["arm"].train, curve_seeds=1, ungated_seeds=2)
    found = conditions(setting, method, seed, (0, 1, 5, 10))
    assert len(set(found)) == len(found) == some
    assert (Condition(10, gated=False) in found) == ungated
    assert found[:2] == [Condition(0), Condition(10)]


def test_the_control_of_kept_contexts_differs_from_reptile_in_them_alone():
    also, tuned = SETTINGS["half_cheetah"].also, SETTINGS["half_cheetah"].tuned
    assert METHODS["reptile_afresh"] == METHODS["reptile"]
    assert also["reptile"] == also["reptile_afresh"] | {"keep": 0.85}
    assert tuned["reptile"] == tuned["reptile_afresh"]


def test_a_family_without_settings_is_refused(tmp_path, capsys):
    assert main(Args(("cartpole",), parts=tmp_path, out=tmp_path / "some.parquet")) == 2
    assert "no settings for cartpole (there are: arm" in capsys.readouterr().out


@pytest.mark.parametrize("name", list(FRESH))
def test_fresh_tasks_are_none_of_the_tables_and_all_else_is_theirs(name):
    usual, fresh = SETTINGS[name], FRESH[name]
    tables, mine = (
        Tasks.of(registry.get(name), SPLITS, s.tasks, s.first_task) for s in (usual, fresh)
    )
    assert len(mine.tasks) == 3 * fresh.tasks
    assert not {*zip(tables.splits, tables.numbers)} & {*zip(mine.splits, mine.numbers)}
    assert not [task for task in mine.tasks if task in tables.tasks]
    radius = fresh.train.adaptation.projection_radius
    assert radius == (2.0 if name == "half_cheetah" else None)
    adaptation = fresh.train.adaptation.model_copy(update={"projection_radius": None})
    which = (
        "methods",
        "tasks",
        "first_task",
        "curve_seeds",
        "ungated_seeds",
        "oracle_seeds",
        "other_seeds",
        "scratch",
    )
    back = {name: getattr(usual, name) for name in which}
    back["train"] = dataclasses.replace(fresh.train, adaptation=adaptation)
    assert dataclasses.replace(fresh, **back) == usual


def test_fresh_tasks_run_through(tmp_path):
    out = tmp_path / "fresh.parquet"
    assert main(Args(("arm",), fresh=True, out=out, parts=tmp_path, quick=True)) == 0
    rows = scores.read(out)[0]
    assert set(rows.method) == {"joint", "reptile", "oracle"}
    assert set(rows.task) == {10, 11}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SETTINGS))
def test_every_family_runs_through(name):
    rows = list(run_seed(name, quickened(SETTINGS[name]), 0, ("validation",)))
    assert {row["family"] for row in rows} == {name}


def test_tuned_step_sizes_are_trained_with():
    tuned = {"maml": Tuned(0.3, 0.02)}
    setting = OnPolicySetting(OnPolicyConfig(outer_steps=4), tuned=tuned)
    config = on_policy.config_of(setting, "maml", 0)
    assert (config.inner_lr, config.epsilon) == (0.3, 0.08)
    config = on_policy.config_of(setting, "joint", 0)
    assert (config.inner_lr, config.epsilon) == (setting.train.inner_lr, setting.train.epsilon)


def test_the_simulator_as_oracle_is_judged_as_the_others_are_and_runs():
    family = registry.get("half_cheetah")
    setting = dataclasses.replace(quickened(SETTINGS["half_cheetah"]), periods=60, judged_from=30)
    tasks = Tasks.of(family, ("in_range",), 1)
    (healthy,), (broken,) = (judge_simulator(family, setting, tasks, f, 0) for f in (False, True))
    assert (healthy["experiment"], broken["experiment"]) == ("adapt", "fault")
    assert healthy["k"] == broken["k"] == 0
    assert healthy["episode_return"] > 15, "half a metre per second"
    assert np.isnan(healthy["recovery_s"])
    assert broken["recovery_s"] >= 0


def test_the_noise_floor(tmp_path, capsys, monkeypatch):
    """Every second run loses a tenth by chance, every one by adapting, none with the same noise."""

    def returns(setting, start, tasks, k, run, noise):
        lost = 1.0 if noise and (k or run == 0) else 0.0
        return [10.0 - lost] * len(tasks.tasks)

    monkeypatch.setattr(noise_floor, "_returns", returns)
    args = noise_floor.Args(runs=2, out=tmp_path / "noise.json", quick=True, json=True)
    assert noise_floor.main(args) == 0
    rows = pd.DataFrame(json.loads(args.out.read_text())["rows"])
    assert list(zip(rows.method, rows.split)) == list(itertools.product(VERDICT, SPLITS))
    assert (rows.runs == 4).all()
    assert (rows.worse_by_chance == 0.5).all()
    assert (rows.worse_by_adapting == 1.0).all()
    assert (rows.worse_by_adapting_same_noise == 0.0).all()
    assert json.loads(capsys.readouterr().out)["rows"] == rows.to_dict("records")
    assert noise_floor.main(noise_floor.Args("point_nav", out=args.out)) == 2
    assert "'point_nav' has no planner here (these have: arm" in capsys.readouterr().out


def test_other_noise_is_another_run_of_the_same_task(quick):
    family, setting = registry.get("arm"), quickened(SETTINGS["arm"])
    assert isinstance(setting, Setting)
    start = scratch(experience(family, setting, 0, lambda _: None))
    tasks = Tasks.of(family, ("in_range",), 2)
    one, same, other = (
        [row["episode_return"] for row in judge(family, setting, start.trainer, tasks, how, 0)]
        for how in (Condition(0), Condition(0, noise=0), Condition(0, noise=1))
    )
    assert one == same
    assert not set(one) & set(other)


def test_experience_is_not_gathered_twice_unless_another_is_asked_for(tmp_path, monkeypatch):
    family, quick = registry.get("arm"), quickened(SETTINGS["arm"])
    assert isinstance(quick, Setting)
    setting = dataclasses.replace(
        quick,
        train=dataclasses.replace(quick.train, tried_plans=1),
        also={"reptile": {"keep": 0.5}},
    )
    gathered = []

    def get(setting=setting, seed=0):
        doing: list[str] = []
        found = experience(family, setting, seed, doing.append, tmp_path)
        gathered.append(bool(doing))
        return found

    first, again = get(), get()
    train = setting.train
    adaptation = train.adaptation.model_copy(update={"projection_radius": 1.0})
    other = get(
        dataclasses.replace(setting, train=dataclasses.replace(train, adaptation=adaptation))
    )
    assert other.trainer.config.adaptation.projection_radius == 1.0
    assert again.trainer.config == first.trainer.config
    assert (again.train_s, again.train_env_steps) == (first.train_s, first.train_env_steps)
    ends = [
        finish(shared, setting, "reptile", lambda _: None, Tuned(0.1, 1e-3)).trainer.params
        for shared in (first, again, experience(family, setting, 0, lambda _: None))
    ]
    for end in ends[1:]:
        assert all(torch.equal(value, end[name]) for name, value in ends[0].items())
    (kept,) = tmp_path.glob("*.safetensors")
    kept.write_bytes(kept.read_bytes()[:-1000])
    get()
    get(seed=1)
    get(dataclasses.replace(setting, train=dataclasses.replace(train, fit_lr=2e-3)))
    monkeypatch.setattr(type(family), "planning", Planning(smoothness=0.2))
    get()
    assert gathered == [True, False, False, True, True, True, True]

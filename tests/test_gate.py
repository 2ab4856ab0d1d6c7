"""reptile_agent.gate: adapted parameters are offered only for all of five reasons."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.gate import Evidence, judge

CONFIG = AdaptationConfig(max_distance=2.0, margin=0.1, rehearsal_margin=0.5)
GOOD = Evidence(
    live_before=1.0, live_after=0.5, rehearsal_start=0.2, rehearsal_after=0.25, distance=1.0
)


def verdict(**changes: float | None):
    return judge(dataclasses.replace(GOOD, **changes), CONFIG)


def test_what_is_better_near_and_remembers_is_accepted():
    found = verdict()
    assert (found.accepted, found.word) == (True, "accepted")
    assert found.reason == "error on held-out live data 1 -> 0.5"


@pytest.mark.parametrize("field", ["live_after", "rehearsal_start", "rehearsal_after", "distance"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(field, value):
    found = verdict(**{field: value})
    assert (found.accepted, found.word) == (False, "not_finite")


@pytest.mark.parametrize(
    ("changes", "word", "reason"),
    [
        ({"distance": 2.01}, "too_far", "distance 2.01 from the start exceeds max_distance 2"),
        ({"rehearsal_after": 0.31}, "forgets", "0.31 exceeds 0.3 (start: 0.2)"),
        ({"live_after": 0.9}, "not_better", "0.9 is not below 0.9"),
        ({"live_after": 1.5}, "not_better", "1.5 is not below 0.9"),
    ],
)
def test_each_refusal_has_its_word_and_its_numbers(changes, word, reason):
    found = verdict(**changes)
    assert (found.accepted, found.word) == (False, word)
    assert reason in found.reason


@pytest.mark.parametrize(
    "changes", [{"distance": 2.0}, {"rehearsal_after": 0.3}, {"live_after": 0.899}]
)
def test_at_the_limit_it_is_still_accepted(changes):
    assert verdict(**changes).accepted


@pytest.mark.parametrize("before", [math.nan, math.inf])
def test_where_those_in_use_predict_nothing_anything_finite_is_better(before):
    assert verdict(live_before=before, live_after=7.0).accepted


@pytest.mark.parametrize("gain", [-1e-6, math.nan, -math.inf])
def test_plans_that_are_thought_to_be_worse_are_refused(gain):
    found = verdict(plan_gain=gain)
    assert (found.accepted, found.word) == (False, "plans_worse")


@pytest.mark.parametrize("gain", [0.0, 0.3, None])
def test_plans_that_are_no_worse_or_that_nobody_asked_about_pass(gain):
    assert verdict(plan_gain=gain).accepted


numbers = st.floats(0, 5) | st.just(math.nan) | st.just(math.inf)


@given(numbers, numbers, numbers, numbers, numbers)
def test_nothing_is_accepted_against_any_of_the_limits(before, after, start, rehearsed, distance):
    found = judge(Evidence(before, after, start, rehearsed, distance), CONFIG)
    if found.accepted:
        assert distance <= 2.0
        assert rehearsed <= 1.5 * start
        assert after < 0.9 * before or not math.isfinite(before)
    assert found.accepted == (found.word == "accepted")


def test_a_layer_out_of_its_trust_region_is_refused():
    config = CONFIG.model_copy(update={"max_layer_distance": 0.5})
    far = dataclasses.replace(GOOD, layers={"w": 0.1, "b": 0.6})
    assert judge(far, config).word == "layer_too_far"
    assert judge(dataclasses.replace(GOOD, layers={"b": 0.5}), config).accepted
    lost = dataclasses.replace(GOOD, layers={"b": math.nan})
    assert judge(lost, config).word == "not_finite"


@pytest.mark.parametrize("live_after", [0.5, 2.0])
def test_a_verdict_lists_all_figures_whatever_decided(live_after):
    evidence = dataclasses.replace(GOOD, live_after=live_after, layers={"w": 0.1}, plan_gain=3.0)
    figures = judge(evidence, CONFIG).figures
    assert figures == {
        "live_before": 1.0,
        "live_after": live_after,
        "rehearsal_start": 0.2,
        "rehearsal_after": 0.25,
        "distance": 1.0,
        "layer.w": 0.1,
        "plan_gain": 3.0,
    }

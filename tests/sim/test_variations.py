"""sim.variations: ranges, and what is drawn from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.variations import Variation, column


def variation(train=(1.0, 2.0), beyond=(0.5, 4.0), log=False, nominal=1.5) -> Variation:
    return Variation("wear", "x", nominal, train, beyond, "for the test", log)


@given(seed=st.integers(0, 1000), log=st.booleans())
def test_draws_keep_to_their_ranges(seed, log):
    wear, rng = variation(log=log), np.random.default_rng(seed)
    assert 1.0 <= wear.draw_train(rng) <= 2.0
    beyond = wear.draw_beyond(rng)
    assert 0.5 <= beyond <= 1.0 or 2.0 <= beyond <= 4.0


def test_both_sides_of_the_training_range_are_drawn():
    rng = np.random.default_rng(0)
    drawn = np.array([variation().draw_beyond(rng) for _ in range(200)])
    assert (drawn < 1.0).sum() > 60
    assert (drawn > 2.0).sum() > 60


def test_a_side_without_room_is_not_drawn():
    rng = np.random.default_rng(0)
    wear = variation(train=(0.5, 2.0))
    assert all(wear.draw_beyond(rng) >= 2.0 for _ in range(50))


def test_what_has_no_outside_stays_nominal_there():
    wear = variation(train=(1.0, 2.0), beyond=(1.0, 2.0), nominal=1.25)
    assert wear.draw_beyond(np.random.default_rng(0)) == 1.25


def test_log_draws_as_many_halvings_as_doublings():
    rng = np.random.default_rng(0)
    wear = variation(train=(0.5, 2.0), beyond=(0.5, 2.0), log=True)
    drawn = np.array([wear.draw_train(rng) for _ in range(4000)])
    assert abs((drawn < 1.0).mean() - 0.5) < 0.03


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train": (2.0, 1.0)}, "train range 2.0..1.0 is empty"),
        ({"train": (float("nan"), 1.0)}, "train range nan..1.0 is empty"),
        ({"beyond": (5.0, 4.0)}, "beyond range 5.0..4.0 is empty"),
        ({"train": (0.25, 2.0)}, "must contain train"),
        ({"train": (1.0, 5.0)}, "must contain train"),
        ({"beyond": (0.0, 4.0), "log": True}, "log needs beyond above 0"),
        ({"nominal": 5.0}, "nominal 5.0 is outside beyond"),
    ],
)
def test_ranges_that_make_no_sense_are_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=rf"variation 'wear': .*{message}"):
        variation(**fields)


def test_a_silent_task_has_the_nominal_value():
    np.testing.assert_array_equal(
        column([{"wear": 3.0}, {}, {"other": 9.0}], variation()), [3, 1.5, 1.5]
    )


def leg(choices=(-1.0, 0.0, 1.0, 2.0), train=(-1.0, 1.0), beyond=(-1.0, 3.0)) -> Variation:
    return Variation("leg", "index", -1.0, train, beyond, "for the test", choices=choices)


def test_choices_are_drawn_inside_and_outside_the_training_range():
    rng = np.random.default_rng(0)
    assert {leg().draw_train(rng) for _ in range(50)} == {-1.0, 0.0, 1.0}
    assert {leg().draw_beyond(rng) for _ in range(50)} == {2.0}
    assert leg(choices=(-1.0, 0.0)).draw_beyond(rng) == -1.0


def test_a_choice_must_be_whole():
    with pytest.raises(ValueError, match=r"variation 'leg': choices \(0.5,\) are not whole"):
        leg(choices=(0.5,))
    with pytest.raises(ValueError, match=r"is 0.5, not one of \(-1.0, 0.0, 1.0, 2.0\)"):
        leg().check(0.5)
    leg().check(2.0)


def test_a_variation_without_a_unit_or_a_reason_is_refused():
    for unit, why in (("", "for the test"), ("x", "")):
        with pytest.raises(ValueError, match="'wear' needs a unit and a reason"):
            Variation("wear", unit, 1.0, (1.0, 2.0), (1.0, 2.0), why)

"""reptile_agent.trust_region: as a whole and per layer, in shares of the start."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.trust_region import FLOOR_SHARE, breach, layer_distances, pulled_back

ALIKE = {"w": 1.0, "b": 1.0}
START = {"w": np.array([[3.0, 4.0]], np.float32), "b": np.zeros(2, np.float32)}


def test_a_layers_distance_is_a_share_of_its_norm_at_the_start():
    found = layer_distances({"w": START["w"] * 1.5, "b": START["b"]}, START, ALIKE)
    assert found == {"w": pytest.approx(0.5), "b": 0.0}


def test_a_layer_that_starts_at_zero_is_held_against_a_share_of_the_whole():
    moved = {"w": START["w"], "b": np.array([0.0, 1.0], np.float32)}
    assert layer_distances(moved, START, ALIKE)["b"] == pytest.approx(1.0 / (FLOOR_SHARE * 5.0))


def test_where_all_is_zero_the_distance_itself_counts():
    zero = {"b": np.zeros(2, np.float32)}
    assert layer_distances({"b": np.array([3.0, 4.0])}, zero, ALIKE) == {"b": pytest.approx(5.0)}


def test_a_layer_that_is_meant_to_move_further_may():
    moved = {"w": START["w"] * 1.5, "b": START["b"]}
    assert layer_distances(moved, START, {"w": 20.0, "b": 1.0})["w"] == pytest.approx(0.025)


def test_a_layer_that_is_not_to_move_at_all_may_not():
    frozen = {"w": 0.0, "b": 0.0}
    moved = {"w": START["w"] * 1.5, "b": START["b"]}
    assert layer_distances(moved, START, frozen) == {"w": math.inf, "b": 0.0}


def test_what_lies_beyond_the_radius_is_pulled_back_towards_the_start():
    start, flat = np.array([1.0, 1.0], np.float32), np.array([4.0, 5.0], np.float32)
    near = pulled_back(flat, start, 2.5)
    assert near.dtype == np.float32
    assert near == pytest.approx([2.5, 3.0])


@pytest.mark.filterwarnings("error")
def test_what_overflows_is_not_taken_for_the_start():
    start, flat = np.zeros(2, np.float32), np.array([1e30, 1e30], np.float32)
    assert pulled_back(flat, start, 1.0) is flat


@pytest.mark.parametrize("radius", [None, 5.0, 6.0])
def test_what_lies_within_it_stays_to_the_bit(radius):
    start, flat = np.array([1.0, 1.0], np.float32), np.array([4.0, 5.0], np.float32)
    assert pulled_back(flat, start, radius) is flat


CONFIG = AdaptationConfig(max_distance=2.0, max_layer_distance=0.5)


@pytest.mark.parametrize(
    ("distance", "layers", "word"),
    [
        (2.0, {"w": 0.5}, None),
        (2.01, {"w": 0.1}, "too_far"),
        (math.nan, {}, "too_far"),
        (1.0, {"w": 0.1, "b": 0.51}, "layer_too_far"),
        (1.0, {"b": math.nan}, "layer_too_far"),
        (1.0, {}, None),
    ],
)
def test_each_limit_holds(distance, layers, word):
    found = breach(distance, layers, CONFIG)
    assert (found and found[0]) == word


def test_the_sentence_names_the_layer_and_the_setting():
    _, sentence = breach(1.0, {"w": 0.1, "b": 0.7}, CONFIG) or ("", "")
    assert "layer 'b' is at 0.7 of its size" in sentence
    assert "max_layer_distance 0.5" in sentence


def test_without_a_limit_layers_are_free():
    free = CONFIG.model_copy(update={"max_layer_distance": None})
    assert breach(1.0, {"b": 1e9}, free) is None

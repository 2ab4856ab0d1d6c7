"""reptile_agent.meta.priorities: what was wrong is drawn more often, by as much as it says."""

from __future__ import annotations

import numpy as np
import pytest

from reptile_agent.experience import PLAIN
from reptile_agent.meta.priorities import SMALLEST, Priorities, draw
from reptile_agent.replay import Replay
from reptile_agent.transition import Transition


class Plain:
    """As much of a learner as a draw asks for."""

    segment = 1
    experience = PLAIN


def filled(steps: int) -> Replay:
    """Two lanes; every observation is its own number, the newest the largest."""
    replay = Replay(20, 1, 1, lanes=2)
    for t in range(steps):
        obs = np.full((2, 1), t, np.float32)
        replay.push(Transition(obs, obs, obs, np.zeros(2), np.full(2, t == 0)))
    return replay


def test_chances_are_powers_of_the_errors_and_newest_first():
    priorities = Priorities(0.5, 0.4)
    assert (priorities.chances(2, 3) == priorities.chances(2, 3)[0, 0]).all()
    priorities.note(np.array([[0, 2], [1, 1]]), np.array([[4.0, 9.0], [16.0, 25.0]]))
    wanted = np.sqrt(np.array([[4, 1, 9], [1, 25, 1]]) + SMALLEST)  # age 1 twice: the last counts
    np.testing.assert_allclose(priorities.chances(2, 3), wanted, rtol=1e-6)


def test_what_was_never_drawn_counts_as_the_largest_error_so_far():
    priorities = Priorities(1.0, 0.4)
    priorities.chances(1, 2)
    priorities.note(np.array([[0, 1]]), np.array([[7.0, 0.5]]))
    np.testing.assert_allclose(
        priorities.chances(1, 4) - SMALLEST, [[7.0, 7.0, 7.0, 0.5]], rtol=1e-6
    )


def test_what_was_more_wrong_is_drawn_more_often_and_counts_less():
    replay, priorities, rng = filled(4), Priorities(1.0, 1.0), np.random.default_rng(0)
    priorities.chances(2, 4)
    error = np.array([[8.0, 4.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    priorities.note(np.tile(np.arange(4), (2, 1)), error)
    found, age = draw(replay, Plain(), rng, 20_000, priorities)
    np.testing.assert_array_equal(found["obs"][:, 0, :, 0], 3 - age)
    assert "age" not in found
    share = np.array([np.bincount(lane, minlength=4) / lane.size for lane in age])
    np.testing.assert_allclose(share, error / error.sum(axis=1, keepdims=True), atol=0.01)
    assert np.ptp(found["weight"][1]) == 0
    means = [found["weight"][0, 0, age[0] == a].mean() for a in range(4)]
    np.testing.assert_allclose(np.array(means) / means[0], [1, 2, 4, 8], rtol=2e-3)


@pytest.mark.parametrize("per_lane", [1, 6])
def test_full_correction_gives_the_mean_of_even_draws_however_few_a_lane_gives(per_lane):
    replay, priorities, rng = filled(4), Priorities(1.0, 1.0), np.random.default_rng(0)
    priorities.chances(2, 4)
    priorities.note(np.tile(np.arange(4), (2, 1)), np.array([[8.0, 4, 2, 1], [30.0, 1, 1, 1]]))
    corrected, plain = [], []
    for _ in range(4000):
        found, age = draw(replay, Plain(), rng, per_lane, priorities)
        corrected.append((found["weight"][:, 0] * age).mean())
        plain.append(age.mean())
    assert np.mean(corrected) == pytest.approx(1.5, abs=0.1)
    assert np.mean(plain) < 0.8, "what was more wrong was preferred"


def test_without_priorities_all_are_alike():
    found, age = draw(filled(4), Plain(), np.random.default_rng(0), 20_000)
    assert np.bincount(age[0]) / 20_000 == pytest.approx([0.25] * 4, abs=0.02)
    assert (found["weight"] == 1).all()

"""reptile_agent.experience: what a minibatch holds, as declared."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from reptile_agent.experience import Experience, Noise, Switch

RICH = Experience(
    fields=("obs", "action", "next_obs", "reward", "terminated"),
    sees_reference=True,
    inputs=(
        Noise(name="smoothing", size=2, std=0.4, clip=0.5),
        Switch(name="gate", value=0.25, begin=2, every=3),
    ),
)


def test_a_switch_is_on_from_a_step_on_and_then_every_so_many():
    batch = {"weight": np.ones((2, 9, 4), np.float32)}
    gate = RICH.complete(batch, np.random.default_rng(0))["gate"]
    assert gate.shape == (2, 9, 4)
    assert gate.dtype == np.float32
    assert gate[1, :, 3].tolist() == [0, 0, 0.25, 0, 0, 0.25, 0, 0, 0.25]


def test_steps_taken_before_count():
    batch = {"weight": np.ones((4, 1), np.float32)}
    rng = np.random.default_rng(0)
    together = RICH.complete({"weight": np.ones((8, 1), np.float32)}, rng)["gate"]
    later = RICH.complete(batch, rng, first_step=4)["gate"]
    np.testing.assert_array_equal(later, together[4:])


def test_a_switch_is_on_in_what_judges():
    batch = {"weight": np.ones((2, 3, 4), np.float32)}
    gate = RICH.complete(batch, np.random.default_rng(0), first_step=None)["gate"]
    np.testing.assert_array_equal(gate, np.full((2, 3, 4), 0.25, np.float32))


def test_noise_is_normal_clipped_and_the_generators():
    batch = {"weight": np.ones((3, 500), np.float32)}
    noise = RICH.complete(batch, np.random.default_rng(1))["smoothing"]
    assert noise.shape == (3, 500, 2)
    assert np.abs(noise).max() == 0.5
    assert (np.abs(noise) < 0.4).mean() == pytest.approx(0.683, abs=0.03)
    again = RICH.complete(batch, np.random.default_rng(1))["smoothing"]
    np.testing.assert_array_equal(noise, again)


def test_a_plain_batch_is_left_alone():
    batch = {"weight": np.ones((2, 3), np.float32)}
    assert Experience().complete(batch, np.random.default_rng(0)) is batch


def test_shapes_are_those_of_the_robot(robot):
    assert Experience().segments(robot, 3) == {"obs": (2,), "action": (3, 2), "next_obs": (3, 2)}
    assert RICH.minibatch(robot, 3) == {
        "obs": (3,),
        "action": (3, 2),
        "next_obs": (3, 3),
        "reward": (3,),
        "terminated": (3,),
        "weight": (),
        "smoothing": (2,),
        "gate": (),
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fields": ("obs", "action")}, "fields lack"),
        ({"fields": ("obs", "action", "next_obs", "obs")}, "twice"),
        ({"fields": ("obs", "action", "next_obs", "price")}, "fields.3"),
        ({"inputs": (RICH.inputs[1], RICH.inputs[1])}, r"\['gate'\] twice"),
        ({"inputs": ({"kind": "noise", "name": "p.w0", "size": 1, "std": 1, "clip": 1},)}, "name"),
        ({"inputs": ({"kind": "magic", "name": "x"},)}, "'noise', 'switch'"),
        ({"inputs": ({"kind": "switch", "name": "weight", "value": 1, "begin": 0, "every": 1},)},
         r"\['weight'\] twice"),
        ({"inputs": ({"kind": "switch", "name": "x", "value": 1, "begin": 0, "every": 0},)},
         "every"),
    ],
)  # fmt: skip
def test_what_cannot_be_declared_is_refused(change, words):
    with pytest.raises(ValidationError, match=words):
        Experience(**change)

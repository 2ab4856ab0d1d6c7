"""Families that contradict their model, their tasks or themselves are refused before they run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sim.backends.batch import BatchSim
from sim.families.arm import Arm
from sim.families.cartpole import Cartpole
from sim.family import MujocoFamily


def test_an_xml_that_does_not_fit_the_robot_is_refused(family):
    class Slower(type(family)):
        substeps = family.substeps + 1

    with pytest.raises(ValueError, match=r"substeps of .* are not the control period"):
        _ = Slower().model


def test_a_model_without_actuators_is_refused():
    class Idle(Cartpole):
        def build(self):
            spec = super().build()
            for actuator in list(spec.actuators):
                spec.delete(actuator)
            return spec

    with pytest.raises(ValueError, match=r"'cartpole' has no actuators.*add an <actuator> section"):
        _ = Idle().model


def test_an_observation_that_the_model_does_not_have_is_refused():
    class Curious(Cartpole):
        columns = np.arange(5)

    with pytest.raises(ValueError, match="observes column 4 of the state, its model has 2 pos"):
        _ = Curious().model


def test_signals_under_another_joints_name_are_refused():
    class Crossed(Arm):
        robot = Arm.robot.model_copy(
            update={"observations": (*Arm.robot.observations[1::-1], *Arm.robot.observations[2:])}
        )

    wrong = r"an observation 'shoulder_lift.position' that is 'shoulder_pan.position' in its model"
    with pytest.raises(ValueError, match=wrong):
        _ = Crossed().model


class Plain(Arm):
    """Its actions are its actuators."""

    mixing = MujocoFamily.mixing


def test_actions_that_are_not_the_actuators_are_refused():
    class Crossed(Plain):
        robot = Arm.robot.model_copy(update={"actions": Arm.robot.actions[::-1]})

    class Short(Plain):
        robot = Arm.robot.model_copy(update={"actions": Arm.robot.actions[:4]})

    assert Plain().model.nu == 5
    for family in (Crossed(), Short()):
        with pytest.raises(ValueError, match=r"order robot\.actions as the model does"):
            _ = family.model


def test_a_mixing_of_another_shape_is_refused():
    class Narrow(Arm):
        def mixing(self, tasks):
            return super().mixing(tasks)[:, :, :4]

    wrong = r"mixing has shape \(2, 5, 4\), expected .* = \(2, 5, 5\)"
    with pytest.raises(ValueError, match=wrong):
        BatchSim(Narrow(), [{}, {}])


@pytest.mark.parametrize("over", ["all lanes", "columns, of the largest"])
def test_a_reward_that_mixes_lanes_is_refused_and_one_that_numpy_reads_otherwise_is_torchs(over):
    class Odd(Arm):
        def reward(self, obs, action, next_obs, reference):
            error = abs(next_obs[..., :5] - reference)
            return -error.mean() if over == "all lanes" else -error.max(-1)[0]

    if over == "all lanes":
        with pytest.raises(ValueError, match=r"reward must give each lane its own.*\.mean\(-1\)"):
            BatchSim(Odd(), [{}] * 3)
        return
    sim = BatchSim(Odd(), [{}] * 3)
    reference = sim.reference(1)[:, 0]
    obs, reward, *_ = sim.step(np.full((3, 5), 0.2, np.float32))
    np.testing.assert_allclose(reward, -np.abs(obs[:, :5] - reference).max(axis=1), rtol=1e-6)


def test_an_initial_state_that_is_none_is_refused():
    class Nowhere(Cartpole):
        def initial_state(self, rng, tasks):
            return np.full((len(tasks), 2), np.nan), np.zeros((len(tasks), 2))

    with pytest.raises(ValueError, match="initial_state gives values that are not finite"):
        BatchSim(Nowhere(), [{}])


def test_a_family_that_draws_nothing_for_its_course_can_get_sensors_in_mid_episode():
    class Still(Cartpole):
        noise = 0.0

        def draw_course(self, rng, tasks):
            return {}

        def course(self, parameters, time_s):
            return np.zeros((1, time_s.shape[-1], 1), np.float32).repeat(time_s.shape[0], 0)

        def sensing(self, tasks):
            return (np.full((2, 4), self.noise), np.zeros(2, int)) if self.noise else None

    family = Still()
    sim = BatchSim(family, [{}, {}])
    family.noise = 0.1
    sim.set_tasks([{}, {}])
    assert not np.array_equal(sim.step(np.zeros((2, 1), np.float32))[0], sim.state())


def test_splits_that_were_frozen_for_other_ranges_are_refused():
    class Stronger(Cartpole):
        variations = tuple(
            replace(v, train=(1.0, 1.2)) if v.name == "gain" else v for v in Cartpole.variations
        )

    class Renamed(Cartpole):
        variations = tuple(
            replace(v, name="strength") if v.name == "gain" else v for v in Cartpole.variations
        )

    for family in (Stronger(), Renamed()):
        with pytest.raises(ValueError, match=r"splits.json was frozen for other ranges .*anew"):
            family.splits()

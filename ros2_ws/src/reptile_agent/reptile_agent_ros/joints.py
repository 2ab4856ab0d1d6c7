"""joint_states to observations, by name: order does not matter, a missing joint does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from reptile_agent.spec import RobotSpec
from sensor_msgs.msg import JointState


class JointError(ValueError):
    """A joint_states message cannot be what the bundle's robot measures."""


def parse_joint_map(pairs: Sequence[str]) -> dict[str, str]:
    """`['elbow_flex=elbow']` to the robot's name of each of the bundle's joints.

    Raises:
        ValueError: a pair is not `bundle_name=robot_name`.
    """
    found = {}
    for pair in pairs:
        ours, equals, theirs = pair.partition('=')
        if not (ours and equals and theirs):
            raise ValueError(f"joint_map entry '{pair}' should read bundle_name=robot_name")
        found[ours] = theirs
    return found


class JointReader:
    """Picks the observations of a RobotSpec out of joint_states.

    Args:
        robot: of the bundle.
        joint_map: the robot's name of a joint where it differs from the bundle's.
    """

    def __init__(self, robot: RobotSpec, joint_map: dict[str, str]) -> None:
        unknown = set(joint_map) - set(robot.observed_joints)
        if unknown:
            raise ValueError(
                f"joint_map names {sorted(unknown)}, the bundle's joints are "
                f'{list(robot.observed_joints)}'
            )
        self._names = {joint: joint_map.get(joint, joint) for joint in robot.observed_joints}
        self._signals = [(self._names[s.joint], s.quantity) for s in robot.observations]
        self._order: list[str] = []
        self._at: dict[str, int] = {}

    def read(self, message: JointState) -> np.ndarray:
        """Observations, float32 [obs_dim].

        Raises:
            JointError: a joint is missing or named twice, or an array has the wrong length.
        """
        if message.name != self._order:
            self._learn_order(list(message.name))
        obs = np.empty(len(self._signals), np.float32)
        arrays = {
            'position': message.position,
            'velocity': message.velocity,
            'effort': message.effort,
        }
        for i, (joint, quantity) in enumerate(self._signals):
            array = arrays[quantity]
            if len(array) != len(self._order):
                raise JointError(
                    f'joint_states has {len(self._order)} names and {len(array)} values of '
                    f'{quantity}; the driver must publish {quantity} for every joint'
                )
            obs[i] = array[self._at[joint]]
        return obs

    def _learn_order(self, names: list[str]) -> None:
        for ours, theirs in self._names.items():
            if theirs not in names:
                raise JointError(
                    f"joint '{ours}' of the bundle is not in joint_states "
                    f'(has: {", ".join(names)}); set joint_map in the parameters'
                )
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise JointError(f'joint_states names {", ".join(twice)} twice; mend the driver')
        self._order, self._at = names, {name: i for i, name in enumerate(names)}

"""joint_states to observations, by name: order does not matter, whose joint it is does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
from reptile_agent.spec import Quantity, RobotSpec
from reptile_agent_ros.fields import split_pairs
from sensor_msgs.msg import JointState

MAX_ORDERS = 16
"""Orders of names that are remembered: what comes from outside may not fill the memory."""


class JointError(ValueError):
    """A joint_states message cannot be what the bundle's robot measures."""


def parse_joint_map(pairs: Sequence[str]) -> dict[str, str]:
    """`['elbow_flex=elbow']` to the robot's name of each of the bundle's joints.

    Raises:
        ValueError: a pair is not `bundle_name=robot_name`.
    """
    return dict(split_pairs('joint_map', pairs, 'bundle_name=robot_name'))


@dataclass(frozen=True)
class _Picks:
    """Where one quantity of an observation lies in a message with certain names."""

    quantity: Quantity
    to: np.ndarray
    """Columns of the observation, int [n]."""
    of: np.ndarray
    """Index of each into the message's names, int [n]."""


class JointReader:
    """Picks the observations of a RobotSpec out of joint_states, and notes when each came.

    Args:
        robot: of the bundle.
        joint_map: the robot's name of a joint where it differs from the bundle's.
        strict: every message must name the bundle's joints, all and no others. Otherwise a
            message may hold some of them, others are ignored, and freshness finds what lacks.
        elsewhere: names of signals that do not come from joint_states; their columns are left
            alone, and a joint that has no others need not be there.
    """

    def __init__(
        self,
        robot: RobotSpec,
        joint_map: dict[str, str],
        strict: bool = True,
        elsewhere: Container[str] = (),
    ) -> None:
        unknown = set(joint_map) - set(robot.observed_joints)
        if unknown:
            raise ValueError(
                f"joint_map names {sorted(unknown)}, the bundle's joints are "
                f'{list(robot.observed_joints)}'
            )
        self._robot, self._strict = robot, strict
        self._columns = {
            column: signal
            for column, signal in enumerate(robot.observations)
            if signal.name not in elsewhere
        }
        joints = dict.fromkeys(signal.joint for signal in self._columns.values())
        self._names = {joint: joint_map.get(joint, joint) for joint in joints}
        theirs = list(self._names.values())
        twice = sorted({name for name in theirs if theirs.count(name) > 1})
        if twice:
            raise ValueError(
                f"joint_map leads two of the bundle's joints to {twice}; give each its own"
            )
        self._orders: dict[tuple[str, ...], list[_Picks]] = {}
        self.obs = np.full(len(robot.observations), np.nan, np.float32)
        """Newest of each signal, NaN where none came; overwritten by `take`, [obs_dim]."""
        self.received_s = np.full(len(robot.observations), -np.inf)
        """When each signal came; overwritten by `take`, [obs_dim]."""

    def take(self, message: JointState, now_s: float) -> None:
        """Take in what a message holds. On an error nothing changes.

        Args:
            message: as it came.
            now_s: steady clock.

        Raises:
            JointError: a joint is named twice, an array has the wrong length, or, where strict,
                a joint is missing or not the bundle's.
        """
        names = tuple(message.name)
        picks = self._orders.get(names)
        if picks is None:
            picks = self._learn_order(names)
        found = [(pick, getattr(message, pick.quantity)) for pick in picks]
        for pick, array in found:
            if len(array) != len(names) and (self._strict or len(array)):
                raise JointError(
                    f'joint_states has {len(names)} names and {len(array)} values of '
                    f'{pick.quantity}; the driver must publish {pick.quantity} for every joint'
                )
        for pick, array in found:
            if len(array):
                self.obs[pick.to] = np.asarray(array)[pick.of]
                self.received_s[pick.to] = now_s

    @property
    def missing(self) -> list[str]:
        """Signals that never came, by name."""
        never = np.isneginf(self.received_s)
        if not never.any():
            return []
        return [s.name for s, lacks in zip(self._robot.observations, never) if lacks]

    def forget(self) -> None:
        """Wait for new measurements of everything."""
        self.obs[:], self.received_s[:] = np.nan, -np.inf

    def _learn_order(self, names: tuple[str, ...]) -> list[_Picks]:
        """Check names that were not seen before, and find the observations among them."""
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise JointError(f'joint_states names {", ".join(twice)} twice; mend the driver')
        if self._strict:
            self._check_strictly(names)
        at = {name: i for i, name in enumerate(names)}
        picks = []
        for quantity in ('position', 'velocity', 'effort'):
            pairs = [
                (column, at[self._names[signal.joint]])
                for column, signal in self._columns.items()
                if signal.quantity == quantity and self._names[signal.joint] in at
            ]
            if pairs:
                to, of = np.array(pairs).T
                picks.append(_Picks(quantity, to, of))
        if len(self._orders) == MAX_ORDERS:
            self._orders.clear()
        self._orders[names] = picks
        return picks

    def _check_strictly(self, names: tuple[str, ...]) -> None:
        for ours, theirs in self._names.items():
            if theirs not in names:
                raise JointError(
                    f"joint '{ours}' of the bundle is not in joint_states "
                    f'(has: {", ".join(names)}); set joint_map in the parameters, or '
                    'strict_joints to false where joints come in several messages'
                )
        extra = [name for name in names if name not in self._names.values()]
        if extra:
            raise JointError(
                f"joint_states has '{extra[0]}', which is no joint of the bundle "
                f'({", ".join(self._names.values())}); set strict_joints to false to ignore it'
            )

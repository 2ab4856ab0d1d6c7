"""The reference that the robot is to follow, from trajectory_msgs/JointTrajectory, by name."""

from __future__ import annotations

import numpy as np
from reptile_agent.onboard.path import Path
from reptile_agent.spec import RobotSpec
from trajectory_msgs.msg import JointTrajectory

MAX_AGE_S = 3600.0
"""Of a trajectory's stamp, past or to come: beyond, clocks differ."""


class Track:
    """A path of the reference signals over the steady clock.

    Args:
        robot: of the bundle.
        joint_map: the robot's name of a joint where it differs from the bundle's.
    """

    def __init__(self, robot: RobotSpec, joint_map: dict[str, str]) -> None:
        self._signals, self.max_age_s = robot.references, MAX_AGE_S
        strange = [s.name for s in robot.references if s.quantity != 'position']
        if strange:
            raise ValueError(
                f'a trajectory holds positions, the bundle is to follow {strange}; set '
                'reference_interface to twist or twist_stamped'
            )
        self._names = [joint_map.get(s.joint, s.joint) for s in robot.references]
        self._period_s = robot.control_period_s
        self._path = Path(np.zeros(1), np.zeros((1, len(self._signals))))

    def stay(self, reference: np.ndarray) -> None:
        """Stay at one place until a trajectory comes, [ref_dim]."""
        self._path = Path(np.zeros(1), np.array(reference, float)[None])

    def follow(self, message: JointTrajectory, begin_s: float) -> None:
        """Follow a trajectory that begins at a time of the steady clock.

        Raises:
            ValueError: a joint is missing, a value is not finite or out of limits, or times do
                not rise. What was followed before stays.
        """
        columns = []
        for name in self._names:
            if name not in message.joint_names:
                raise ValueError(
                    f"trajectory lacks joint '{name}' (has: {', '.join(message.joint_names)})"
                )
            columns.append(message.joint_names.index(name))
        if not message.points:
            raise ValueError('trajectory has no points')
        for point in message.points:
            if len(point.positions) != len(message.joint_names):
                raise ValueError(
                    f'a point of the trajectory has {len(point.positions)} positions for '
                    f'{len(message.joint_names)} joints'
                )
        times = [p.time_from_start.sec + 1e-9 * p.time_from_start.nanosec for p in message.points]
        if (np.diff(times) <= 0).any():
            raise ValueError('times of the trajectory do not rise')
        values = np.array([point.positions for point in message.points])[:, columns]
        for signal, column in zip(self._signals, values.T):
            if not ((column >= signal.low) & (column <= signal.high)).all():
                raise ValueError(
                    f"trajectory takes '{signal.name}' to {column.min():.3g}..{column.max():.3g}, "
                    f'outside [{signal.low:.3g}, {signal.high:.3g}]'
                )
        slopes = None
        if all(len(p.velocities) == len(message.joint_names) for p in message.points):
            slopes = np.array([point.velocities for point in message.points])[:, columns]
            if not np.isfinite(slopes).all():
                raise ValueError('velocities of the trajectory are not finite')
        self._path = Path(begin_s + np.array(times), values, slopes)

    def goes_on(self, now_s: float) -> bool:
        """Whether a trajectory is under way."""
        return now_s < self._path.times_s[-1]

    def ahead(self, now_s: float, horizon: int) -> np.ndarray:
        """The reference of the next `horizon` control periods, float32 [horizon, ref_dim]."""
        times_s = now_s + self._period_s * np.arange(1, horizon + 1)
        return self._path.at(times_s).astype(np.float32)

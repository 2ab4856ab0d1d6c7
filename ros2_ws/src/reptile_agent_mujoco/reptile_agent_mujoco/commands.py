"""Commands as controllers of ros2_control take them, turned into actions.

What does not fit is refused whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from reptile_agent.spec import RobotSpec
from trajectory_msgs.msg import JointTrajectory

_POINT_FIELDS = {'position': 'positions', 'velocity': 'velocities', 'effort': 'effort'}


class RefusedError(ValueError):
    """A command that moves nothing.

    Args:
        kind: one word for what is wrong with it, so that a log can tell kinds apart.
        message: a sentence that names the thing and the mend.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class CommandReader:
    """Reads commands for one robot.

    Args:
        robot: whose actions are commanded.
        command_joints: joints in the order in which a forward command lists them; empty: the
            order of the robot's actions.

    Raises:
        ValueError: command_joints is no permutation of the commanded joints.
    """

    def __init__(self, robot: RobotSpec, command_joints: Sequence[str] = ()) -> None:
        self._robot = robot
        self._joints = [signal.joint for signal in robot.actions]
        self._order = list(command_joints) or self._joints
        if sorted(self._order) != sorted(self._joints):
            raise ValueError(
                f'command_joints {self._order} are not the commanded joints of robot '
                f"'{robot.name}' ({', '.join(self._joints)}); name each of these once"
            )
        self._columns = [self._order.index(joint) for joint in self._joints]

    def forward(self, data: Sequence[float]) -> np.ndarray:
        """The action of a forward command: float64 [act_dim], in the order of the actions.

        Args:
            data: one value per joint of command_joints, in the unit of its action.

        Raises:
            RefusedError: wrong length or not finite.
        """
        if len(data) != len(self._order):
            raise RefusedError(
                'length',
                f'a forward command has {len(data)} values, the robot takes {len(self._order)}: '
                f'{", ".join(self._order)}; send one value per joint',
            )
        return self._finite(np.asarray(data, np.float64)[self._columns])

    def trajectory(self, message: JointTrajectory) -> np.ndarray:
        """The action of a trajectory's last point: float64 [act_dim], in the order of the actions.

        Raises:
            RefusedError: joints unknown or missing, no point, wrong length or not finite.
        """
        names = list(message.joint_names)
        unknown = sorted(set(names) - set(self._joints))
        missing = [joint for joint in self._joints if joint not in names]
        if unknown:
            raise RefusedError(
                'joint',
                f'a trajectory names joints {unknown} that are not commanded (there are: '
                f'{", ".join(self._joints)}); send those',
            )
        if missing or len(names) != len(self._joints):
            raise RefusedError(
                'joint',
                f'a trajectory names joints {names} and must name each of '
                f'{", ".join(self._joints)} once',
            )
        if not message.points:
            raise RefusedError('length', 'a trajectory has no point; send at least one')
        action = []
        for signal in self._robot.actions:
            field = _POINT_FIELDS[signal.quantity]
            values = getattr(message.points[-1], field)
            if len(values) != len(names):
                raise RefusedError(
                    'length',
                    f'the last point of a trajectory has {len(values)} {field} for {len(names)} '
                    f"joints, and '{signal.joint}' is commanded by {signal.quantity}; fill it",
                )
            action.append(values[names.index(signal.joint)])
        return self._finite(np.asarray(action, np.float64))

    def _finite(self, action: np.ndarray) -> np.ndarray:
        if not np.isfinite(action).all():
            pairs = zip(self._joints, action.tolist())
            bad = [f'{joint}: {value}' for joint, value in pairs if not np.isfinite(value)]
            raise RefusedError('finite', f'a command is not finite ({", ".join(bad)})')
        return action

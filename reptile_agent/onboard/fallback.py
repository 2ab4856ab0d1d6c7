"""What drives the robot once the policy may not: `hold`, `damp`, or a user's own controller.

A package brings its own by an entry point of the group `reptile_agent.fallbacks`: a class as
`Fallback` describes it. It is watched like the policy: its commands pass the same limits, and
where it raises or gives something that is no command, `hold` takes over.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Protocol

import numpy as np

from reptile_agent.spec import RobotSpec, limits

GROUP = "reptile_agent.fallbacks"


class Fallback(Protocol):
    """Called once a control period while the fallback is latched; made with the RobotSpec.

    It runs in the control loop: it must answer in a small part of a period and may not block.
    """

    def begin(self, obs: np.ndarray) -> None:
        """The fallback begins.

        Args:
            obs: the last good measurement, [obs_dim].
        """
        ...

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """The command for this period, [act_dim]; limits are applied to it.

        Args:
            obs: newest measurement, NaN where it is not to be believed, [obs_dim].
        """
        ...


class Hold:
    """Servos hold where they were when it began; velocities and efforts go to zero."""

    def __init__(self, robot: RobotSpec) -> None:
        servo = robot.servo_columns()
        self._columns, self._is_servo = np.maximum(servo, 0), servo >= 0
        self._low, self._high = limits(robot.actions)
        self._command = self.at(np.zeros(len(robot.observations), np.float32))

    def at(self, obs: np.ndarray) -> np.ndarray:
        """The command that holds the robot where it is, within its limits, float32 [act_dim]."""
        command = np.where(self._is_servo, obs[self._columns], 0.0).astype(np.float32)
        return np.clip(command, self._low, self._high)

    def begin(self, obs: np.ndarray) -> None:
        """See Fallback."""
        self._command = self.at(obs)

    def stay(self, sent: np.ndarray) -> None:
        """Servos hold where they were sent last, [act_dim]: they may have moved since it began."""
        self._command = np.where(self._is_servo, sent, np.float32(0.0))

    def __call__(self, obs: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """See Fallback."""
        return self._command


class Damp(Hold):
    """As Hold, but efforts work against the motion: minus gain times the measured velocity.

    The gain is the action's largest effort at the largest velocity that is believed. Where the
    velocity is not measured, or not to be believed, the effort is zero.
    """

    def __init__(self, robot: RobotSpec) -> None:
        super().__init__(robot)
        columns = robot.measured_columns("velocity")
        self._velocity = np.maximum(columns, 0)
        gains = []
        for action, column in zip(robot.actions, columns):
            damped = action.quantity == "effort" and column >= 0
            signal = robot.observations[column]
            effort, speed = max(-action.low, action.high), max(-signal.low, signal.high)
            gains.append(effort / speed if damped else 0.0)
        self._gain = np.array(gains, np.float32)

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """See Fallback."""
        velocity = obs[self._velocity]
        return self._command - self._gain * np.where(np.isfinite(velocity), velocity, 0.0)


BUILT_IN: dict[str, Callable[[RobotSpec], Fallback]] = {"hold": Hold, "damp": Damp}


def find(name: str) -> Callable[[RobotSpec], Fallback]:
    """The fallback of that name.

    Raises:
        LookupError: there is none, several packages bring it, or it cannot be imported.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    points = {(p.name, p.value): p for p in entry_points(group=GROUP)}
    found = [point for point in points.values() if point.name == name]
    if not found:
        names = sorted({*BUILT_IN, *(point.name for point in points.values())})
        raise LookupError(
            f"there is no fallback '{name}' (there are: {', '.join(names)}); install the package "
            f"that brings it by an entry point of the group {GROUP}"
        )
    if len(found) > 1:
        values = ", ".join(sorted(point.value for point in found))
        raise LookupError(f"several packages bring a fallback '{name}' ({values}); remove one")
    try:
        return found[0].load()
    except (ImportError, AttributeError) as error:
        raise LookupError(
            f"fallback '{name}' leads to '{found[0].value}', which cannot be imported: {error}"
        ) from error


class GuardedFallback:
    """Runs a fallback of which nothing is believed unchecked.

    Args:
        robot: what it is to drive.
        name: of the fallback.

    Raises:
        LookupError: there is none of that name.
        ValueError: it refuses the robot.
    """

    def __init__(self, robot: RobotSpec, name: str) -> None:
        self.name = name
        self.failures = 0
        """Times that `hold` had to take over, ever."""
        self.error = ""
        """Why `hold` took over since the fallback began; empty: it did not."""
        self._acts = len(robot.actions)
        self._hold, make = Hold(robot), find(name)
        try:
            self._fallback = make(robot)
        except Exception as error:
            raise ValueError(
                f"fallback '{name}' cannot drive robot '{robot.name}': "
                f"{type(error).__name__}: {error}"
            ) from error

    def begin(self, obs: np.ndarray) -> None:
        """The fallback begins, at the last good measurement [obs_dim]."""
        self.error = ""
        self._hold.begin(obs)
        try:
            self._fallback.begin(obs.copy())
        except Exception as error:
            self._give_up(f"{type(error).__name__}: {error}")

    def command(self, obs: np.ndarray, sent: np.ndarray | None = None) -> np.ndarray:
        """A finite command [act_dim], not yet limited.

        Args:
            obs: newest measurement, NaN where it is not to be believed, [obs_dim].
            sent: what was sent last: where servos stay should the fallback fail now; None: where
                they were when it began.
        """
        if not self.error:
            try:
                command = np.asarray(self._fallback(obs), np.float32)
            except Exception as error:
                # Whatever a user's code does wrong, a robot must not be left without a command.
                self._give_up(f"{type(error).__name__}: {error}", sent)
            else:
                if command.shape == (self._acts,) and np.isfinite(command).all():
                    return command
                self._give_up(f"it gave {command}, not {self._acts} finite numbers", sent)
        return self._hold(obs)

    def _give_up(self, reason: str, sent: np.ndarray | None = None) -> None:
        self.failures += 1
        if sent is not None:
            self._hold.stay(sent)
        self.error = f"fallback '{self.name}' failed, the robot holds instead: {reason}"

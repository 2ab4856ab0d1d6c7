"""Finds sensors that stand still while the robot should move: a dead encoder, a stuck driver.

A robot at rest reads the same too, to the bit where its encoders count. So a sample counts only
while the commands are away from what they were when the signal last changed.
"""

from __future__ import annotations

import numpy as np

from reptile_agent.spec import RobotSpec


class FrozenSensors:
    """Counts, for every signal, new samples that are the same to the bit while commands differ.

    A signal is held against the actions of its own joint; one of a joint without an action
    against all actions: only when every one of them has changed must such a joint have moved.

    Args:
        robot: signals with `may_rest` are not watched.
        samples: so many make a frozen sensor.
        share: how far a command must be from what it was when the signal last changed, as a
            share of its range.
    """

    def __init__(self, robot: RobotSpec, samples: int, share: float) -> None:
        self.samples = samples
        self.found = np.zeros(len(robot.observations), bool)
        """Which signals are frozen, until `reset`; [obs_dim]."""
        self._same_age_s = robot.control_period_s / 2
        spans = np.array([a.high - a.low for a in robot.actions], np.float32)
        self._distance = np.empty((len(robot.observations), len(robot.actions)), np.float32)
        joints = np.array([a.joint for a in robot.actions])
        for signal, row in zip(robot.observations, self._distance):
            own = joints == signal.joint
            relevant = own if own.any() else np.ones_like(own)
            row[:] = np.inf if signal.may_rest else np.where(relevant, share * spans, -1.0)
        self._count = np.zeros(len(robot.observations), int)
        self._bits = np.zeros(len(robot.observations), np.int32)
        self._ages_s = np.zeros(len(robot.observations))
        self._then = np.zeros_like(self._distance)
        """Commands when each signal last changed, [obs_dim, act_dim]."""
        self.reset()

    def update(self, obs: np.ndarray, ages_s: np.ndarray, sent: np.ndarray) -> bool:
        """Take in one control period.

        Args:
            obs: measurement, float32 [obs_dim].
            ages_s: since each was received: one that has grown was seen before, [obs_dim].
            sent: the command that was last sent, [act_dim].

        Returns:
            Whether any signal is frozen.
        """
        bits = obs.view(np.int32)
        same = bits == self._bits
        if not same.any():
            self._count[:] = 0
            self._then[:] = sent
        else:
            changed = ~same
            self._count[changed] = 0
            self._then[changed] = sent
            new = ages_s < self._ages_s + self._same_age_s
            driven = (np.abs(sent - self._then) >= self._distance).all(axis=1)
            self._count += same & new & driven
            self.found |= self._count >= self.samples
        self._bits[:] = bits
        self._ages_s[:] = ages_s
        return bool(self.found.any())

    def reset(self) -> None:
        """Begin anew."""
        self.found[:] = False
        self._count[:] = 0
        # No measurement that is believed has these bits: they are a NaN's.
        self._bits[:] = -1
        self._ages_s[:] = np.inf

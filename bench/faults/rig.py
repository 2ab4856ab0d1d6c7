"""The shipped controller on a fake clock: a robot that follows, and all that was sent to it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from bench.faults.row import Setup
from reptile_agent.onboard.controller import Controller, Tick

AFTER = 20
"""Control periods after a fallback in which no command may be the policy's."""
SETTLE = 8
"""Control periods before a fault."""


class Rig:
    """Steps a controller in fixed ticks; its servos reach their commands within a period.

    Measurements come once a period, at a phase that is drawn anew by `start`. The policy is the
    bundle's own unless `wanted` stands in for it.
    """

    def __init__(self, setup: Setup) -> None:
        self.controller = Controller(setup.bundle, setup.envelope)
        self.robot = setup.bundle.manifest.robot
        self.period_s = self.robot.control_period_s
        self.rng = setup.rng()
        self.servos = np.maximum(self.robot.servo_columns(), 0)
        self.now_s, self.acted, self.wall_s = 1000.0, 0, 0.0
        self.obs = np.zeros(len(self.robot.observations), np.float32)
        self.received_s = np.zeros(self.obs.size)
        horizon = self.controller.policy.horizon
        self.reference = np.zeros((horizon, len(self.robot.references)), np.float32)
        self.silent: set[int] = set()
        self.spoiled: dict[int, float] = {}
        self.wanted: Callable[[], np.ndarray] | None = None
        self._act = self.controller.policy.act
        self.controller.policy.act = self._asked
        self.start()

    def start(self) -> None:
        """Begin a trial: no fault, a phase of its own, and a robot that is under control."""
        self.silent.clear()
        self.spoiled.clear()
        self.wanted = None
        self.reference[:] = 0.0
        self.obs[:] = 0.0
        self.controller.reset()
        self.phase_s = self.rng.uniform(0.0, 0.9) * self.period_s
        for _ in range(SETTLE):
            self.tick()

    def tick(self, periods: float = 1.0) -> Tick:
        """One control period; `wall_s` is how long the controller took."""
        self.now_s += periods * self.period_s
        for i in range(self.obs.size):
            if i not in self.silent:
                self.received_s[i] = self.now_s - self.phase_s
                self.obs[i] += self.rng.uniform(-1e-3, 1e-3)
        obs = self.obs.copy()
        for i, value in self.spoiled.items():
            obs[i] = value
        began = time.perf_counter()
        found = self.controller.tick(self.now_s, obs, self.received_s, self.reference)
        self.wall_s = time.perf_counter() - began
        if found.command is not None and np.isfinite(found.command).all():
            self.obs[self.servos] = found.command
        return found

    @property
    def active(self) -> bool:
        """Whether the policy drives."""
        return self.controller.mode == "active"

    def latched(self) -> str:
        """What is wrong with the fallback over the next periods; empty: nothing."""
        acted = self.acted
        for _ in range(AFTER):
            command = self.tick().command
            if self.active:
                return "the fallback did not stay"
            if command is None or not np.isfinite(command).all():
                return f"the fallback sent {command}"
        return "" if self.acted == acted else "the policy was asked again"

    def _asked(self, obs: np.ndarray, reference: np.ndarray) -> np.ndarray:
        self.acted += 1
        return self._act(obs, reference) if self.wanted is None else self.wanted()

"""What chooses the actions in `reptile-agent play`: zeros, chance, or a bundle."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from reptile_agent.commands.console import UserError
from reptile_agent.onboard.adapter import Adapter
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.controller import Controller
from reptile_agent.spec import RobotSpec, limits


class Player(Protocol):
    """What chooses the actions of one robot."""

    horizon: int
    """Control periods of reference that it needs."""

    def act(self, now_s: float, obs: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """The action [act_dim] for a measurement [obs_dim] and a reference [horizon, ref_dim]."""
        ...

    def reset(self) -> None:
        """A new episode begins."""
        ...

    def summary(self) -> dict[str, Any]:
        """What there is to say of it."""
        ...


class Zero:
    """Sends zeros, or the limit nearest to zero."""

    horizon = 1

    def __init__(self, robot: RobotSpec) -> None:
        low, high = limits(robot.actions)
        self._action = np.clip(np.zeros_like(low), low, high)

    def act(self, now_s: float, obs: np.ndarray, reference: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """See Player."""
        return self._action

    def reset(self) -> None:
        """See Player."""

    def summary(self) -> dict[str, Any]:
        """See Player."""
        return {}


class Random(Zero):
    """Draws uniformly within the limits, anew every control period."""

    def __init__(self, robot: RobotSpec, seed: int) -> None:
        self._limits, self._rng = limits(robot.actions), np.random.default_rng(seed)

    def act(self, now_s: float, obs: np.ndarray, reference: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """See Player."""
        return self._rng.uniform(*self._limits)


class OnBoard:
    """A bundle on the robot's own runtime: envelope, probation, and adaptation if asked for.

    On the robot the adaptation is a process of its own; here it takes no simulated time.
    """

    def __init__(self, bundle: Bundle, adapt: bool, seed: int) -> None:
        self._controller = Controller(bundle, seed=seed)
        self._adapter = Adapter(bundle, seed=seed) if adapt else None
        self._adaptations = self._version = 0
        self._faults: list[str] = []
        self.horizon = self._controller.policy.horizon

    def act(self, now_s: float, obs: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """See Player."""
        controller = self._controller
        was = controller.mode
        tick = controller.tick(now_s, obs, now_s, reference)
        if controller.mode != was:
            self._faults.append(controller.envelope.fault)
        if self._adapter is not None:
            if tick.transition is not None:
                self._adapter.remember(tick.transition)
            if controller.mode != "active":
                self._adapter.forget()
            elif controller.ticks % self._adapter.config.period == 0 and self._adapter.ready:
                self._adapt(self._adapter)
        return controller.envelope.hold(obs) if tick.command is None else tick.command

    def reset(self) -> None:
        """See Player."""
        self._controller.reset()

    def summary(self) -> dict[str, Any]:
        """See Player."""
        controller = self._controller
        found = {"fallbacks": self._faults, "clamped_periods": controller.envelope.clamps}
        if self._adapter is not None:
            found |= {
                "adaptations": self._adaptations,
                "accepted": self._version,
                "rolled_back": controller.rollbacks,
            }
        return {"start_sha256": controller.bundle.manifest.start_sha256, "on_board": found}

    def _adapt(self, adapter: Adapter) -> None:
        adapter.in_use = self._controller.policy.parameters  # the controller may have rolled back
        try:
            adaptation = adapter.adapt()
        except LookupError:  # episodes were so short that no segment fits
            return
        self._adaptations += 1
        if adaptation.verdict.accepted:
            self._version += 1
            start = self._controller.bundle.manifest.start_sha256
            self._controller.offer(self._version, start, adaptation.parameters)


def check_fits(bundle: Bundle, family: str, robot: RobotSpec) -> None:
    """Refuse a bundle of another robot.

    Raises:
        UserError: it is of another family, or of another state of this one.
    """
    manifest = bundle.manifest
    source = manifest.provenance.family
    if source != family:
        raise UserError(
            f"bundle {bundle.path} is of family '{source}' (robot '{manifest.robot.name}'), not of "
            f"'{family}'; play it with `reptile-agent play {source} --bundle {bundle.path}`"
        )
    fields = RobotSpec.model_fields
    other = [n for n in fields if getattr(manifest.robot, n) != getattr(robot, n)]
    if other:
        raise UserError(
            f"bundle {bundle.path} was made when the robot of family '{family}' had other "
            f"{', '.join(other)}; train and export it again"
        )

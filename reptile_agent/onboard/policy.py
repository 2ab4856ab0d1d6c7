"""Acts: one run of `act.onnx` per control period, a plan or a policy, without allocation."""

from __future__ import annotations

import numpy as np

from reptile_agent.onboard import parameters
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.session import Bound


class Policy:
    """Chooses actions with a bundle's planner or policy network and a set of parameters.

    Args:
        bundle: verified.
        seed: of the planner's noise.
    """

    def __init__(self, bundle: Bundle, seed: int = 0) -> None:
        manifest = bundle.manifest
        robot, plan = manifest.robot, manifest.plan
        self.bundle = bundle
        self._rng = np.random.default_rng(seed)
        acts = len(robot.actions)

        def zeros(*shape: int) -> np.ndarray:
            return np.zeros(shape, np.float32)

        self._flat = bundle.start.copy()
        self._plans = manifest.plans
        self._plan, self._new_plan = zeros(plan.horizon, acts), zeros(plan.horizon, acts)
        self._noise = zeros(plan.samples, plan.horizon, acts)
        self._obs, self._action = zeros(len(robot.observations)), zeros(acts)
        self._reference = zeros(plan.horizon, len(robot.references))
        self._expected = zeros(len(robot.observations)) if self._plans else self._obs
        views = parameters.views(self._flat, manifest.parameters)
        inputs = {f"p.{entry.name}": views[entry.name] for entry in manifest.acting}
        inputs |= {"obs": self._obs, "reference": self._reference}
        outputs = {"action": self._action}
        if self._plans:
            inputs |= {"plan": self._plan, "noise": self._noise}
            outputs |= {"new_plan": self._new_plan, "expected": self._expected}
        else:
            self._plan = self._action[None]
        self._graph = Bound(bundle.session("act.onnx"), inputs, outputs)

    @property
    def horizon(self) -> int:
        """Control periods of reference that `act` needs."""
        return self._plan.shape[0]

    @property
    def parameters(self) -> np.ndarray:
        """The parameters in use, a copy, flat float32."""
        return self._flat.copy()

    @property
    def plan(self) -> np.ndarray:
        """What is planned, relative to the reference's own commands, [horizon, act_dim]; a view.

        Of a policy its action, as it is: [1, act_dim].
        """
        return self._plan

    @property
    def expected(self) -> np.ndarray:
        """Measurement that the model expected after the last action; overwritten by the next.

        Where no model plans, the measurement that was acted on.
        """
        return self._expected

    def set_parameters(self, flat: np.ndarray) -> None:
        """Use other parameters from the next `act` on.

        Raises:
            ValueError: wrong length, or not finite; the old ones stay.
        """
        if flat.shape != self._flat.shape:
            raise ValueError(
                f"got {flat.shape[0]} parameters, the bundle has {self._flat.shape[0]}"
            )
        if not np.isfinite(flat).all():
            raise ValueError("parameters are not finite; the old ones stay")
        self._flat[:] = flat

    def reset(self) -> None:
        """Forget the plan: after a stop, or a jump of the reference."""
        self._plan[:] = 0.0

    def act(self, obs: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """The action for this control period.

        Args:
            obs: measurement now, [obs_dim], in the order of the RobotSpec.
            reference: of the next `horizon` periods, [horizon, ref_dim].

        Returns:
            [act_dim]; overwritten by the next call.
        """
        self._obs[:] = obs
        self._reference[:] = reference
        if not self._plans:
            self._graph.run()
            return self._action
        self._rng.standard_normal(out=self._noise, dtype=np.float32)
        self._graph.run()
        self._plan[:] = self._new_plan
        return self._action

"""What lanes would have done with other parameters: the simulation's side of `plan_evidence`."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from reptile_agent.meta.driver import Driver
from reptile_agent.meta.learner import Params, stack
from reptile_agent.plan_evidence import plan_gain


class PlanGate:
    """Plans anew along the last moments of every lane.

    Args:
        driver: of the lanes, a planner or a policy.
        start: parameters that every lane began with.
        states: control periods to plan along; the later half of the plans is judged, when the plan
            that is carried from one to the next has settled.
        rng: of the driver's noise, which both parameters share.
    """

    def __init__(
        self, driver: Driver, start: Params, states: int, rng: np.random.Generator
    ) -> None:
        self._driver, self._start, self._rng = driver, start, rng
        self._seen: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=states)
        self._plan, self._value = vmap(driver), vmap(driver.value)

    def see(self, obs: np.ndarray, reference: np.ndarray, first: np.ndarray) -> None:
        """One control period: where the lanes are [lanes, obs_dim], what they are to follow
        [lanes, horizon, ref_dim], and which of them have just started anew.
        """
        arrays = (obs, reference, first)
        self._seen.append(tuple(torch.from_numpy(a.copy()) for a in arrays))  # type: ignore[arg-type]

    @torch.no_grad()
    def gain(self, old: Params, new: Params, error: np.ndarray) -> np.ndarray:
        """What the committee thinks that the plans of `new` are worth more, [lanes].

        Args:
            old: parameters in use, [lanes, ...].
            new: adapted ones, [lanes, ...].
            error: on the last moments, of the start, of `old` and of `new`, [3, lanes].
        """
        lanes = error.shape[1]
        judges = (stack(self._start, lanes), old, new)
        shape = (lanes, self._driver.horizon, len(self._driver.robot.actions))
        plans = [torch.zeros(shape), torch.zeros(shape)]
        gains = np.zeros((len(judges), lanes))
        for number, (obs, reference, first) in enumerate(self._seen):
            noise = self._rng.standard_normal((lanes, *self._driver.noise_shape), dtype=np.float32)
            for side, params in enumerate((old, new)):
                plans[side][first] = 0.0
                arrays = (obs, reference, plans[side], torch.from_numpy(noise))
                plans[side] = self._plan(params, *arrays)[1]
            if number < len(self._seen) // 2:
                continue
            both = torch.stack(plans, dim=1)
            # What is the same gains nothing, and not what rounding makes of it.
            differ = (plans[0] != plans[1]).flatten(1).any(1)
            for judge, params in enumerate(judges):
                value = self._value(params, obs, reference, both)
                gains[judge] += torch.where(differ, value[:, 1] - value[:, 0], 0.0).numpy()
        return plan_gain(error, gains / max(len(self._seen) - len(self._seen) // 2, 1))

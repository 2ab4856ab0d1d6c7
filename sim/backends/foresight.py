"""Plans, tried on copies of a simulator's lanes."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's names live in a compiled module that carries no stubs)

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import mujoco
import numpy as np

if TYPE_CHECKING:
    from sim.backends.batch import BatchSim


class Foresight:
    """Copies of all lanes, as many of each, which try what plans come to.

    Args:
        sim: whose lanes; they do not move.
        copies: of the lanes, in their order, all of one beside each other.
    """

    def __init__(self, sim: BatchSim, copies: BatchSim) -> None:
        self._sim, self._copies = sim, copies
        self._plans = copies.num_envs // sim.num_envs

    def value(self, actions: np.ndarray) -> np.ndarray:
        """See `BatchSim.foresee`.

        Once its episode has ended a plan earns what the worst of the others earn, or nothing where
        that is more: where values are negative, falling early must not pay.
        """
        horizon = actions.shape[2]
        reference = np.repeat(self._sim.reference(horizon), self._plans, axis=0)
        total = np.zeros(actions.shape[0] * actions.shape[1], np.float32)
        for t, (before, action, after, alive) in enumerate(self._steps(actions)):
            value = self._copies.objective(before, action, after, reference[:, t])
            worst = float(value.min(initial=0.0, where=alive))
            total += np.where(alive, value, worst)
        return (total / horizon).reshape(actions.shape[:2])

    def course(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `BatchSim.follow`."""
        steps = list(self._steps(actions))
        obs = np.stack([steps[0][0], *(after for _, _, after, _ in steps)], axis=1)
        alive = np.stack([alive for *_, alive in steps], axis=1)
        lanes = actions.shape[:2]
        return obs.reshape(*lanes, *obs.shape[1:]), alive.reshape(*lanes, -1)

    def _steps(self, actions: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
        """Every period of all plans: states before, action, states after, and whether it counts.

        It counts while a plan's episode goes on and its physics is sound.
        """
        copies, family = self._copies, self._sim.family
        copies.batch.state[:] = np.repeat(self._sim.batch.state, self._plans, axis=0)
        flat = actions.reshape(-1, *actions.shape[2:]).astype(np.float32)
        alive = np.ones(len(flat), bool)
        before = copies.state()
        for t in range(flat.shape[1]):
            copies.command(flat[:, t])
            copies.batch.step(nstep=family.substeps)
            after = copies.state()
            sound = (np.abs(after) < mujoco.mjMAXVAL).all(axis=1)
            after[~sound] = before[~sound]
            alive = alive & sound
            yield before, flat[:, t], after, alive
            alive = alive & ~family.terminated(after)
            before = after

"""Parameters of WarpSim's worlds: what families write, what follows of it, what cannot be."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's names live in a compiled module that carries no stubs)

from __future__ import annotations

from dataclasses import fields as fields_of

import mujoco_warp as mjw
import numpy as np
from mujoco.batch import MODEL_FIELDS, Batch

from sim.family import MujocoFamily


def _batched(struct: type) -> set[str]:
    """Fields of a struct of MJWarp that may have one value per world."""
    return {f.name for f in fields_of(struct) if getattr(f.type, "shape", ("",))[0] == "*"}


OPTIONS = {f"opt.{name}" for name in _batched(mjw.Option)}
VARIABLE = _batched(mjw.Model) | OPTIONS
# Only sleeping bodies need dof_length, and BatchSim has none either.
SHARED = {f.name for f in fields_of(mjw.Model)} - VARIABLE - {"dof_length"}
POSES = {"body_pos", "body_quat", "geom_pos", "geom_quat"}
LEFT_OUT = set(
    "opt.density opt.viscosity opt.wind body_gravcomp geom_adhesion pair_adhesion geom_surfacevel "
    "tendon_stiffness tendon_stiffnesspoly tendon_damping tendon_dampingpoly actuator_damping "
    "actuator_dampingpoly actuator_armature".split()
)
"""Fields whose effect MJWarp leaves out of its kernels if the nominal model has none of it."""


class ParameterTable:
    """The families' `Fields`: values by world, and by MuJoCo's own arithmetic what follows of them.

    Inverse weights and the like are thus computed in double precision and by the same code as in
    BatchSim, on whatever device the worlds are.
    """

    def __init__(self, family: MujocoFamily, worlds: int) -> None:
        self._family, self._batch = family, Batch(family.model, worlds)
        if family.model.nhistory:
            self._batch.expand("actuator_delay")  # so that the nominal one is rounded too

    def expand(self, name: str) -> np.ndarray:
        """See `Fields.expand`.

        Raises:
            ValueError: MJWarp has no such field, or only one for all worlds.
        """
        if name not in VARIABLE:
            raise ValueError(
                f"family '{self._family.name}' writes the model field '{name}', which cannot "
                f"differ between the worlds of MJWarp; check its name, or use BatchSim"
            )
        return self._batch.expand(name)

    def values(self) -> dict[str, np.ndarray]:
        """All fields that differ from the nominal model, [worlds, ...], constants included.

        Raises:
            ValueError: a field differs that MJWarp keeps the same in all worlds, or leaves out.
        """
        self._batch.set_const()
        values = {}
        for name in MODEL_FIELDS:
            value = self._batch.expanded(name)
            if value is None:
                continue
            if name in SHARED:
                raise ValueError(
                    f"the tasks of family '{self._family.name}' change the model field '{name}', "
                    f"which is the same in all worlds of MJWarp; use BatchSim"
                )
            if name in VARIABLE:
                self._refuse_what_has_no_effect(name, value)
                values[name] = value
        if "actuator_delay" in values:
            values["actuator_delay"] = self._robust(values["actuator_delay"])
        return values

    def _refuse_what_has_no_effect(self, name: str, value: np.ndarray) -> None:
        model, writes = self._family.model, f"family '{self._family.name}' writes '{name}'"
        nominal = getattr(model.opt if name in OPTIONS else model, name.removeprefix("opt."))
        if name in LEFT_OUT and value.any() and not np.any(nominal):
            raise ValueError(
                f"{writes}, which is zero in its nominal model: MJWarp leaves it out then; "
                f"give the model a tiny one, or use BatchSim"
            )
        if name in POSES:
            bodies = np.arange(model.nbody) if name.startswith("body") else model.geom_bodyid
            fixed = model.body_weldid[bodies] == 0
            if (value[:, fixed] != nominal[fixed]).any():
                raise ValueError(
                    f"{writes} of something that is fixed to the world: MJWarp computes its pose "
                    f"only once; use BatchSim (for a slope: tilt opt.gravity)"
                )

    def _robust(self, delay_s: np.ndarray) -> np.ndarray:
        """Delays that read the same command, but not at the edge between two of them.

        A command is held for whole physics steps, so a delay acts like its next multiple of one.
        Half a step less than that reads the same entry of the history, and leaves MJWarp's time in
        single precision room for its error.
        """
        step_s = self._family.model.opt.timestep
        steps = np.ceil(delay_s / step_s - 1e-6)
        return np.where(steps > 0, (steps - 0.5) * step_s, 0.0)

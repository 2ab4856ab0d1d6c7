"""VecSim on MuJoCo Warp: each lane a world on the GPU, or, for tests, on the CPU.

`BatchSim` is faster on a CPU. This one is for thousands of lanes on a GPU, where observations,
rewards and actions stay there as torch tensors.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's names live in a compiled module that carries no stubs)

from __future__ import annotations

import copy
import gc
import logging
from collections.abc import Callable
from typing import Any, Literal, cast

import mujoco
import numpy as np
import torch

try:
    import mujoco_warp as mjw
    import warp as wp
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"WarpSim needs MuJoCo Warp, and {error.name} is not installed: "
        f"pip install 'reptile-agent[gpu]', or use BatchSim"
    ) from error

from reptile_agent.spec import limits
from reptile_agent.task import Task
from sim.backends import checks
from sim.backends.batch import LOOK_AHEAD, UnstableError
from sim.backends.delay_lines import position_servos
from sim.backends.warp_fields import OPTIONS, ParameterTable
from sim.backends.warp_sensors import TensorSensors
from sim.family import MujocoFamily

log = logging.getLogger(__name__)
# Else every kernel that is compiled or loaded says so on stdout.
wp.config.log_level = max(wp.config.log_level, wp.LOG_WARNING)

Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
CONTACTS = 16
"""Contacts of one world at a time that fit if `njmax` is left to WarpSim."""
CAPACITIES = mjw.OverflowType.NEFC | mjw.OverflowType.NJMAX_NNZ
CAPACITIES |= mjw.OverflowType.BROADPHASE | mjw.OverflowType.NARROWPHASE | mjw.OverflowType.CCD


class CapacityError(RuntimeError):
    """A world has more contacts or constraints than there is room for: its motion is wrong."""


class WarpSim:
    """Lanes of one family, each its own variant; implements `reptile_agent.task.VecSim`.

    It means what BatchSim means, in single precision. `reset_tensor`, `step_tensor` and
    `reference_tensor` are the same interface without the way over numpy.

    Args:
        family: what is simulated.
        tasks: one variant per lane.
        device: 'cpu', 'cuda' or 'cuda:<index>'.
        unstable: see BatchSim.
        nconmax: contacts of an average world; default: MJWarp's guess.
        njmax: rows of constraints of a single world; default: room for every friction and limit,
            and for CONTACTS contacts.
    """

    qpos: torch.Tensor
    """Positions of the worlds themselves, float32 [num_envs, nq]: what is written here moves."""
    qvel: torch.Tensor
    """Velocities, likewise, [num_envs, nv]."""
    ctrl: torch.Tensor
    """Actuator controls, likewise, [num_envs, nu]; `step` writes them."""
    obs: np.ndarray
    """Observations of the last `reset` or `step`, float32 [num_envs, obs_dim]."""

    def __init__(
        self,
        family: MujocoFamily,
        tasks: list[Task],
        device: str = "cpu",
        unstable: Literal["raise", "terminate"] = "raise",
        nconmax: int | None = None,
        njmax: int | None = None,
    ) -> None:
        checks.some_tasks(family.name, tasks)
        self.family, self.num_envs, self.unstable = family, len(tasks), unstable
        self._device = _device(device)
        self.device = torch.device(wp.device_to_torch(self._device))
        self._delay_lines = position_servos(family.model)
        self._table = ParameterTable(family, self.num_envs)
        self._build(nconmax, njmax)
        low, high = limits(family.robot.actions)
        self._low, self._high = self._upload(low), self._upload(high)
        self._columns = self._upload(family.columns, torch.int64)
        self._steps, self._at = np.zeros(self.num_envs, int), 0
        self._ahead = torch.zeros(self.num_envs, 0, len(family.robot.references)).to(self.device)
        self._sensors: TensorSensors | None = None
        self.course: dict[str, np.ndarray] | None = None
        self.set_tasks(tasks)
        self.reset(seed=0)

    def set_tasks(self, tasks: list[Task]) -> None:
        """Change the variants in mid-motion; see `BatchSim.set_tasks`.

        Raises:
            ValueError: another number of tasks than lanes, a value out of reason, or a field that
                MJWarp cannot vary.
            LookupError: an unknown variation.
        """
        checks.a_task_per_lane(tasks, self.num_envs)
        self.family.check(tasks)
        self.family.apply(self._table, tasks)
        replaced = [self._write(name, value) for name, value in self._table.values().items()]
        if any(replaced) or self.course is None:
            self._capture()
        self.tasks = [dict(task) for task in tasks]
        self._mixing = self._upload(self.family.mixing(self.tasks))
        sensing = self.family.sensing(self.tasks)
        if sensing is None:
            self._sensors = None
        elif self._sensors is None:
            self._sensors = TensorSensors(*sensing, self.device)
            if self.course is not None:  # in mid-episode
                self._sensors.reset(self.state(), 0, None)
        else:
            self._sensors.change(*sensing)

    def reset(self, seed: int, lanes: np.ndarray | None = None) -> np.ndarray:
        """Start lanes anew; see `BatchSim.reset`, whose starts and courses these are."""
        self.obs = self.reset_tensor(seed, lanes).cpu().numpy()
        return self.obs

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Advance one control period; see `VecSim.step`.

        Raises:
            ValueError: an action is not finite or of another shape; nothing has moved then.
            UnstableError: a lane diverged; the lane, its task and its step are named.
            CapacityError: see `step_tensor`.
        """
        checks.finite_action(action)
        result, trouble = self._step(self._upload(action))
        self.obs, reward, terminated, truncated = (tensor.cpu().numpy() for tensor in result)
        if trouble:
            raise UnstableError(trouble)
        return self.obs, reward, terminated, truncated

    def reference(self, horizon: int) -> np.ndarray:
        """The reference of the next `horizon` periods, float32 [num_envs, horizon, ref_dim]."""
        return self.reference_tensor(horizon).cpu().numpy()

    def reset_tensor(
        self, seed: int, lanes: np.ndarray | torch.Tensor | None = None
    ) -> torch.Tensor:
        """`reset` on the device; returns observations float32 [num_envs, obs_dim].

        Initial states and courses are drawn by numpy for all lanes, so one reset of many lanes
        costs far less than many of few.
        """
        if isinstance(lanes, torch.Tensor):
            lanes = lanes.cpu().numpy()
        some = np.ones(self.num_envs, bool) if lanes is None else np.asarray(lanes, bool)
        self._restart(some, np.random.default_rng(seed))
        if self._sensors is None:
            return self.state()
        mask = None if some.all() else self._upload(some, torch.bool)
        return self._sensors.reset(self.state(), seed, mask)

    def step_tensor(self, action: torch.Tensor) -> Tensors:
        """`step` on the device; returns obs, reward, terminated, truncated.

        An action that is not finite is not looked for: its lane diverges.

        Args:
            action: float32 [num_envs, act_dim], on the simulator's device.

        Raises:
            ValueError: the action has another shape; nothing has moved then.
            UnstableError: a lane diverged; the lane, its task and its step are named.
            CapacityError: a world has more contacts or constraints than there is room for.
        """
        result, trouble = self._step(action)
        if trouble:
            raise UnstableError(trouble)
        return result

    def reference_tensor(self, horizon: int) -> torch.Tensor:
        """`reference` on the device, float32 [num_envs, horizon, ref_dim]."""
        self._look_ahead(horizon)
        return self._ahead[:, self._at : self._at + horizon].clone()

    def state(self) -> torch.Tensor:
        """What perfect sensors would see now, float32 [num_envs, obs_dim], on the device."""
        return torch.cat([self.qpos, self.qvel], dim=1)[:, self._columns]

    def _build(self, nconmax: int | None, njmax: int | None) -> None:
        """Make the worlds, still without tasks."""
        model = copy.copy(self.family.model)
        if model.nhistory and model.actuator_history[:, 1].any():
            raise ValueError(
                f"family '{self.family.name}' interpolates delayed commands; WarpSim holds them, "
                f'so set interp="zoh" in its actuators, or use BatchSim'
            )
        # MJWarp never puts a diverged world back, and refuses to be told so.
        model.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        with wp.ScopedDevice(self._device):
            self._model = mjw.put_model(model)
            njmax = njmax or _constraint_rows(model)
            self._data = mjw.make_data(model, self.num_envs, nconmax=nconmax, njmax=njmax)
            self._starting = wp.zeros(self.num_envs, dtype=bool)
        self._model.opt.warn_overflow = 0  # `_step` raises instead of every kernel printing
        if self._device.is_cuda:
            self._model.opt.graph_conditional = wp.is_conditional_graph_supported()
        data = self._data
        self.qpos, self.qvel, self.ctrl = map(wp.to_torch, (data.qpos, data.qvel, data.ctrl))
        self._overflow = wp.to_torch(data.overflow)

    def _write(self, name: str, value: np.ndarray) -> bool:
        """Write a field of the model; returns whether its array had to be replaced."""
        owner = self._model.opt if name in OPTIONS else self._model
        name = name.removeprefix("opt.")
        array = getattr(owner, name)
        shared = len(array) != self.num_envs
        if shared:
            shape = (self.num_envs, *array.shape[1:])
            array = wp.empty(shape, dtype=array.dtype, device=self._device)
            setattr(owner, name, array)
        tensor = wp.to_torch(array)
        tensor.copy_(torch.tensor(value).reshape(tensor.shape))
        return shared

    def _capture(self) -> None:
        """Record a control period, and a reset, as one graph each; the state of motion stays.

        A graph holds the addresses of its arrays, hence must be recorded anew where one of them
        was replaced. On a GPU it saves the time of hundreds of launches from Python; on the CPU it
        is 7 to 11 times as fast as those.
        """
        data = self._data
        motion = [data.time, data.qpos, data.qvel, data.act, data.history, data.qacc_warmstart]
        motion += [data.ctrl, data.overflow]
        wp.synchronize_device(self._device)
        with wp.ScopedDevice(self._device):
            kept = [wp.clone(array) for array in motion]
            self._starting.zero_()
            self._period_graph = self._record(self._run_period)
            self._reset_graph = self._record(self._reset_worlds)
            for array, value in zip(motion, kept):
                wp.copy(array, value)
        wp.synchronize_device(self._device)

    def _record(self, work: Callable[[], None]) -> Any:
        work()  # compiles and loads what is missing, which CUDA forbids in a capture
        collecting = gc.isenabled()
        gc.disable()  # what it frees in a capture would be freed again at every launch
        try:
            with wp.ScopedCapture() as capture:
                work()
        finally:
            if collecting:
                gc.enable()
        return capture.graph

    def _run_period(self) -> None:
        for _ in range(self.family.substeps):
            mjw.step(self._model, self._data)

    def _reset_worlds(self) -> None:
        mjw.reset_data(self._model, self._data, reset=self._starting)

    def _launch(self, graph: Any) -> None:
        """Run a graph in the order of torch's own work: on its current stream."""
        stream = wp.stream_from_torch(self.device) if self._device.is_cuda else None
        wp.capture_launch(graph, stream=stream)

    def _step(self, action: torch.Tensor) -> tuple[Tensors, str]:
        """One control period, and what is to be said of a lane that diverged."""
        checks.action_shape(tuple(action.shape), self.num_envs, len(self._low))
        self._look_ahead(1)
        reference = self._ahead[:, self._at]
        allowed = torch.clamp(action, self._low, self._high)
        self.ctrl.copy_(torch.bmm(self._mixing, allowed[..., None])[..., 0])
        before = self.state()
        self._launch(self._period_graph)
        after = self.state()
        self._steps += 1
        self._at += 1
        bad = ~(after.abs() < mujoco.mjMAXVAL).all(dim=1)
        crowded = (self._overflow & int(CAPACITIES) != 0) & ~bad
        # The only wait for the device in a period.
        any_bad, any_crowded = torch.stack((bad.any(), crowded.any())).tolist()
        if any_crowded:
            raise CapacityError(self._overflowed(int(crowded.nonzero()[0])))
        trouble = ""
        if any_bad:
            trouble = self._start_diverged_anew(bad, after)
            after = torch.where(bad[:, None], before, after)
        reward = self.family.reward(before, action, after, reference)
        ended = cast("Callable[[Any], Any]", self.family.terminated)(after)
        terminated = torch.as_tensor(ended, device=self.device) | bad
        truncated = self._upload(self._steps >= self.family.episode_steps, torch.bool)
        obs = after if self._sensors is None else self._sensors.read(after)
        say = trouble if self.unstable == "raise" else ""
        return (obs, reward, terminated, truncated), say

    def _restart(self, some: np.ndarray, rng: np.random.Generator) -> None:
        """Put lanes in an initial state, with a course."""
        qpos, qvel = self.family.initial_state(rng, self.tasks)
        checks.finite_start(self.family.name, qpos, qvel)
        course = self.family.draw_course(rng, self.tasks)
        mask = self._upload(some, torch.bool)
        wp.to_torch(self._starting).copy_(mask)
        self._launch(self._reset_graph)
        for mine, start in ((self.qpos, qpos), (self.qvel, qvel)):
            mine.copy_(torch.where(mask[:, None], self._upload(start), mine))
        history = wp.to_torch(self._data.history)
        for line, joint in self._delay_lines:
            history[:, line] = torch.where(
                mask[:, None], self.qpos[:, joint, None], history[:, line]
            )
        if self.course is None:
            self.course = course
        for name, value in course.items():
            self.course[name][some] = value[some]
        self._steps[some] = 0
        self._ahead[mask, self._at :] = self._course(some, self._ahead.shape[1] - self._at)

    def _look_ahead(self, periods: int) -> None:
        """Have references for so many periods to come."""
        if self._at + periods > self._ahead.shape[1]:
            every = np.ones(self.num_envs, bool)
            self._ahead, self._at = self._course(every, max(periods, LOOK_AHEAD)), 0

    def _course(self, some: np.ndarray, periods: int) -> torch.Tensor:
        """References of some lanes from the next period on, [some, periods, ref_dim]."""
        steps = self._steps[some, None] + 1 + np.arange(periods)
        parameters = {name: value[some] for name, value in (self.course or {}).items()}
        time_s = steps * self.family.robot.control_period_s
        return self._upload(self.family.course(parameters, time_s))

    def _start_diverged_anew(self, bad: torch.Tensor, after: torch.Tensor) -> str:
        """Put diverged lanes back to a start; returns what to say of the first."""
        lane = int(bad.nonzero()[0])
        state = after[lane].cpu().numpy()
        trouble = checks.diverged(
            self.family.name, lane, int(self._steps[lane]), self.tasks[lane], state
        )
        log.warning("%s (%d lanes in all; they start anew)", trouble, int(bad.sum()))
        self._restart(bad.cpu().numpy(), np.random.default_rng(self._steps.max()))
        return trouble

    def _overflowed(self, lane: int) -> str:
        """What to say of a world that is too crowded."""
        kinds = mjw.OverflowType(int(self._overflow[lane])) & CAPACITIES
        data = self._data
        return (
            f"family '{self.family.name}', lane {lane}: no room for all contacts or constraints "
            f"({kinds.name}); give WarpSim a larger njmax (NEFC, NJMAX_NNZ; now {data.njmax}) or "
            f"nconmax (the others; now {data.naconmax // self.num_envs}), then reset"
        )

    def _upload(self, array: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.tensor(array, dtype=dtype, device=self.device)


def _device(name: str) -> Any:
    """Warp's device of that name, refused where the simulator could not run on it."""
    if name.startswith("cuda") and not wp.is_cuda_available():
        raise ValueError(
            f"device '{name}' was asked for, but Warp finds no GPU; use device='cpu' or BatchSim"
        )
    device = wp.get_device(name)
    if device.is_cuda and not wp.is_mempool_enabled(device):
        raise ValueError(
            f"device '{name}' has no memory pool, which CUDA graphs need; unset "
            f"WARP_ENABLE_MEMPOOLS_AT_INIT, or use device='cpu'"
        )
    return device


def _constraint_rows(model: mujoco.MjModel) -> int:
    """Rows that all frictions, limits and equalities of a model take, and CONTACTS contacts."""
    largest = int(max([0, *model.geom_condim, *model.pair_dim]))
    pyramids = model.opt.cone == mujoco.mjtCone.mjCONE_PYRAMIDAL and largest > 1
    contact = 2 * (largest - 1) if pyramids else largest
    inner = model.nv + int(model.jnt_limited.sum()) + 2 * model.ntendon + 6 * model.neq
    return inner + CONTACTS * contact

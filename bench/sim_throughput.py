"""How fast tasks are simulated, and what share of MuJoCo's own speed that is, in one run.

    python -m bench.sim_throughput --json

The limit is `mj_step` in C: the same lanes, models, initial states and controls, run by MuJoCo's
rollout on as many threads without any Python between the steps. Every round times the simulator and
its limit one after the other, and the share is the median of the rounds' ratios, so that a machine
that slows down for a while slows both. A step here is a control period: commands, physics,
observation, reward, termination.

`rss_mb` is what a simulator of n variants adds to the process when it is made. Each family and n
has a process of its own, and what is made later there reuses memory that was freed before it: read
the first row. The processes of AsyncVectorEnv do not count, and mj_step's own copies are not
measured. The policy, where there is one, is a 64x64 network in torch for every task, four lanes a
task. Peers are timed where they are installed: gymnasium's vector environments (AsyncVectorEnv: a
process an environment) and envpool, on their own HalfCheetah and Ant.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's names live in a compiled module that carries no stubs)

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tyro

from bench.machine import about, rss_mb_now

if TYPE_CHECKING:
    from sim.family import MujocoFamily

GYMNASIUM_IDS = {"half_cheetah": "HalfCheetah", "ant": "Ant"}
LANES_PER_TASK = 4
PEERS_MOST = 256
"""Environments of a peer: more take minutes to make, and gigabytes."""
ASYNC_MOST = 16
"""Processes of AsyncVectorEnv that are still sensible on a small machine."""

Act = Callable[[np.ndarray, int], np.ndarray]
"""(observations, step) -> actions."""


@dataclass
class Args:
    """Time simulators of task families beside the physical limit."""

    families: tuple[str, ...] = ("half_cheetah", "ant", "arm", "quadruped")
    """Families to time."""
    n: tuple[int, ...] = (16, 64, 256, 1024)
    """Numbers of variants side by side."""
    threads: tuple[int, ...] = (1, 2)
    """Threads of the simulator."""
    device: Literal["cpu", "cuda"] = "cpu"
    """cpu: mujoco.batch and its peers; cuda: MJWarp on the GPU, beside the processor's limit."""
    rounds: int = 15
    """Times that each row is measured; the median counts."""
    seconds: float = 0.15
    """Length of one measurement, roughly."""
    peers: bool = True
    """Also time gymnasium's vector environments and envpool."""
    json: bool = False
    """Print the rows as JSON instead of a table."""
    save: Path | None = None
    """Also write rows, machine and versions into this file."""
    child: bool = False
    """For the benchmark's own use: time one family and n here and print its rows."""


def main() -> None:
    """Time every family and n in its own process."""
    args = tyro.cli(Args, description=__doc__)
    if args.child:
        print(json.dumps(_time_one(args)))
        return
    rows: list[dict[str, Any]] = []
    for family in args.families:
        for n in args.n:
            print(f"{family}, n = {n} ...", file=sys.stderr)
            rows += _in_child(args, family, n)
    if args.save:
        args.save.write_text(json.dumps({"about": about(), "rows": rows}, indent=1) + "\n")
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    print(
        f"{'family':<14}{'backend':<17}{'n':>5}{'threads':>8}  {'policy':<7}{'steps/s':>9}"
        f"{'share':>7}{'MB':>6}"
    )
    for r in rows:
        print(
            f"{r['family']:<14}{r['backend']:<17}{r['n']:>5}{r['threads']:>8}  {r['policy']:<7}"
            f"{r['steps_per_s']:>9.0f}{r['share_of_limit']:>7.2f}{r['rss_mb']:>6.0f}"
        )


def _in_child(args: Args, family: str, n: int) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "bench.sim_throughput", "--child", "--families", family]
    command += ["--n", str(n), "--threads", *map(str, args.threads), "--device", args.device]
    command += ["--rounds", str(args.rounds), "--seconds", str(args.seconds)]
    command += [] if args.peers else ["--no-peers"]
    quiet = dict(os.environ, OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet)
    if done.returncode:
        sys.exit(f"timing {family} with n = {n} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _time_one(args: Args) -> list[dict[str, Any]]:
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    rows = _cuda_rows(args) if args.device == "cuda" else _cpu_rows(args)
    common = {"family": args.families[0], "device": args.device, "n": args.n[0]}
    return [common | row for row in rows]


def _cpu_rows(args: Args) -> list[dict[str, Any]]:
    from sim.backends.batch import BatchSim

    family, n = _family(args.families[0]), args.n[0]
    BatchSim(family, [{}]).step(np.zeros((1, len(family.robot.actions)), np.float32))
    rows, limits = [], {}
    for threads in args.threads:
        before = rss_mb_now()
        sim = BatchSim(family, _tasks(family, n), threads)
        for _ in range(5):
            sim.step(np.zeros((n, len(family.robot.actions)), np.float32))
        rss_mb = rss_mb_now() - before
        for policy, act in (("none", _random(sim)), ("64x64", _policy(sim))):
            speed, limit, share = _race(sim, act, threads, args)
            rows.append(_row("batch", threads, policy, speed, share, rss_mb))
            if policy == "none":
                rows.append(_row("mj_step", threads, policy, limit, 1.0, 0.0))
                limits[threads] = limit
        del sim, act
    if args.peers and n <= PEERS_MOST and family.name in GYMNASIUM_IDS:
        rows += _gymnasium_rows(GYMNASIUM_IDS[family.name], n, limits, args)
    return rows


def _race(sim: Any, act: Act, threads: int, args: Args) -> tuple[float, float, float]:
    """Simulator and limit in turn; returns steps per second of both, and the share."""
    steps = _steps_for(args.seconds, lambda count: _run(sim, act, count))
    sim.reset(seed=0)
    initial, controls = sim.batch.state.copy(), []
    _run(sim, act, steps, controls)
    limit = _Limit(sim, threads, initial, controls)
    measured = []
    for number in range(args.rounds):
        theirs = limit.run() if number % 2 else 0.0
        sim.reset(seed=0)
        ours = _run(sim, act, steps)
        measured.append((ours, theirs or limit.run()))
    ours, theirs = np.array(measured).T
    done = steps * sim.num_envs
    share = float(np.median(theirs / ours))
    return float(np.median(done / ours)), float(np.median(done / theirs)), share


def _run(sim: Any, act: Act, steps: int, controls: list[np.ndarray] | None = None) -> float:
    """Seconds that so many steps take; notes the controls where asked to."""
    obs = sim.obs
    began = time.perf_counter()
    for t in range(steps):
        obs = sim.step(act(obs, t))[0]
        if controls is not None:
            controls.append(sim.batch.ctrl.copy())
    return time.perf_counter() - began


class _Limit:
    """The same physics with nothing but C between the steps."""

    def __init__(
        self, sim: Any, threads: int, initial: np.ndarray, controls: list[np.ndarray]
    ) -> None:
        import mujoco
        from mujoco import rollout

        self.models = [sim.batch.get_model(lane) for lane in range(sim.num_envs)]
        self.data = [mujoco.MjData(self.models[0]) for _ in range(threads)]
        # A row of the batch's state begins with the full physics.
        size = mujoco.mj_stateSize(self.models[0], int(mujoco.mjtState.mjSTATE_FULLPHYSICS))
        self.initial = np.ascontiguousarray(initial[:, :size])
        self.held = np.repeat(np.stack(controls, axis=1), sim.family.substeps, axis=1)
        # Written to before the clock runs: the first touch of memory costs time.
        self.state = np.ones((*self.held.shape[:2], size))
        self.sensors = np.ones((*self.held.shape[:2], self.models[0].nsensordata))
        self.pool = rollout.Rollout(nthread=threads if threads > 1 else 0)

    def run(self) -> float:
        """Seconds that the same steps take."""
        began = time.perf_counter()
        self.pool.rollout(
            self.models,
            self.data,
            self.initial,
            self.held,
            state=self.state,
            sensordata=self.sensors,
        )
        return time.perf_counter() - began


def _gymnasium_rows(
    env_id: str, n: int, limits: dict[int, float], args: Args
) -> list[dict[str, Any]]:
    """Gymnasium's own vector environments and envpool, beside the limit of this run."""
    import gymnasium

    rows, id_ = [], f"{env_id}-v5"
    makers: list[tuple[str, int, Callable[[], Any]]] = [
        ("gymnasium_sync", 1, lambda: gymnasium.make_vec(id_, n, vectorization_mode="sync"))
    ]
    if n <= ASYNC_MOST:
        makers.append(
            ("gymnasium_async", 2, lambda: gymnasium.make_vec(id_, n, vectorization_mode="async"))
        )
    if importlib.util.find_spec("envpool"):
        envpool = importlib.import_module("envpool")
        for threads in args.threads:
            makers.append(
                (
                    "envpool",
                    threads,
                    lambda threads=threads: envpool.make(
                        f"{env_id}-v4", env_type="gymnasium", num_envs=n, num_threads=threads
                    ),
                )
            )
    else:
        print("envpool is not installed: its rows are left out", file=sys.stderr)
    for backend, threads, make in makers:
        if threads not in limits:
            continue
        before, env = rss_mb_now(), make()
        env.reset()
        rng = np.random.default_rng(0)
        actions = rng.uniform(-1, 1, (64, n, env.action_space.shape[-1])).astype(np.float32)

        def run(count: int, env: Any = env, actions: np.ndarray = actions) -> float:
            began = time.perf_counter()
            for t in range(count):
                env.step(actions[t % 64])
            return time.perf_counter() - began

        steps = _steps_for(args.seconds, run)
        speed = float(np.median([steps * n / run(steps) for _ in range(args.rounds)]))
        rss_mb = rss_mb_now() - before
        rows.append(_row(backend, threads, "none", speed, speed / limits[threads], rss_mb))
        env.close()
    return rows


def _cuda_rows(args: Args) -> list[dict[str, Any]]:
    """MJWarp on the GPU; its share is of the limit of all the processor's threads."""
    import torch

    from sim.backends.batch import BatchSim
    from sim.backends.warp import WarpSim

    family, n = _family(args.families[0]), args.n[0]
    tasks, threads = _tasks(family, n), max(args.threads)
    on_cpu = BatchSim(family, tasks, threads)
    _, limit, _ = _race(on_cpu, _random(on_cpu), threads, args)
    before = torch.cuda.mem_get_info()[0]
    sim = WarpSim(family, tasks, device="cuda")
    rss_mb = (before - torch.cuda.mem_get_info()[0]) / 2**20
    generator = torch.Generator("cuda").manual_seed(0)
    actions = 2 * torch.rand(64, n, len(family.robot.actions), device="cuda", generator=generator)
    rows = []
    for policy in ("none", "64x64"):
        net = _Networks(n, len(family.robot.observations), actions.shape[-1], "cuda")

        def run(count: int, policy: str = policy, net: _Networks = net) -> float:
            obs = torch.from_numpy(sim.obs).cuda()
            torch.cuda.synchronize()
            began = time.perf_counter()
            for t in range(count):
                net.obs.copy_(obs)
                obs = sim.step_tensor(net() if policy != "none" else actions[t % 64] - 1)[0]
            torch.cuda.synchronize()
            return time.perf_counter() - began

        steps = _steps_for(args.seconds, run)
        speed = float(np.median([steps * n / run(steps) for _ in range(args.rounds)]))
        rows.append(_row("warp", threads, policy, speed, speed / limit, rss_mb))
    return rows


def _row(
    backend: str, threads: int, policy: str, speed: float, share: float, rss_mb: float
) -> dict[str, Any]:
    return {
        "backend": backend,
        "threads": threads,
        "policy": policy,
        "steps_per_s": round(speed, 1),
        "us_per_step": round(1e6 / speed, 2),
        "share_of_limit": round(share, 4),
        "rss_mb": round(rss_mb, 1),
    }


def _steps_for(seconds: float, run: Callable[[int], float]) -> int:
    """How many steps take about so long."""
    run(3)
    return max(5, int(10 * seconds / run(10)))


def _family(name: str) -> MujocoFamily:
    from sim import registry
    from sim.family import MujocoFamily

    family = registry.get(name)
    if not isinstance(family, MujocoFamily):
        sys.exit(f"family '{name}' is not simulated by MuJoCo, so it has no such limit")
    return family


def _tasks(family: MujocoFamily, n: int) -> list[dict[str, float]]:
    train = family.splits()["train"]
    return [train[i % len(train)] for i in range(n)]


def _random(sim: Any) -> Act:
    """Random actions inside the limits, drawn beforehand."""
    from reptile_agent.spec import limits

    low, high = limits(sim.family.robot.actions)
    shape = (64, sim.num_envs, low.size)
    actions = np.random.default_rng(0).uniform(low, high, shape).astype(np.float32)
    return lambda _, t: actions[t % 64]


def _policy(sim: Any) -> Act:
    """A network per task."""
    robot = sim.family.robot
    net = _Networks(sim.num_envs, len(robot.observations), len(robot.actions), "cpu")
    inputs, actions = net.obs.numpy(), net.actions.numpy()

    def act(obs: np.ndarray, _: int) -> np.ndarray:
        np.copyto(inputs, obs)
        net()
        return actions

    return act


class _Networks:
    """Two hidden layers of 64 for every task, all tasks at once, without allocation."""

    def __init__(self, lanes: int, obs_dim: int, act_dim: int, device: str) -> None:
        import torch

        tasks = max(1, lanes // LANES_PER_TASK)
        generator = torch.Generator().manual_seed(0)
        sizes = [obs_dim, 64, 64, act_dim]
        self.obs = torch.zeros(lanes, obs_dim, device=device)
        self.inputs = self.obs.view(tasks, lanes // tasks, obs_dim)
        self.layers = [
            (
                torch.zeros(tasks, 1, b, device=device),
                (torch.randn(tasks, a, b, generator=generator) / a**0.5).to(device),
                torch.zeros(tasks, lanes // tasks, b, device=device),
            )
            for a, b in itertools.pairwise(sizes)
        ]
        self.actions = self.layers[-1][-1].view(lanes, act_dim)

    def __call__(self) -> Any:
        """Actions for what is in `obs`; the next call overwrites them."""
        import torch

        x = self.inputs
        for bias, weight, out in self.layers:
            x = torch.baddbmm(bias, x, weight, out=out).tanh_()
        return self.actions


if __name__ == "__main__":
    main()

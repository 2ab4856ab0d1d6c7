"""Any gymnasium environment as a task family: its keywords, or its attributes, are what varies.

`from_name("gymnasium:Pendulum-v1?g=5..15")` makes one of a name (`sim.gymnasium_query` says how a
name is read). A family of one's own derives from GymnasiumFamily, names its signals and may give a
reward: `sim/families/cartpole_discrete` is the example.
"""

# ruff: noqa: ARG002  (the base takes what a family may need)

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator

from reptile_agent.spec import Quantity, RobotSpec, Signal
from reptile_agent.task import Planning, Task, VecSim
from sim import gymnasium_query as query
from sim.varied import VariedFamily

if TYPE_CHECKING:
    from torch import Tensor

UNBOUNDED = 1e6
"""What stands for an infinite bound, and for larger ones: a signal's limits are finite."""
DEFAULT_STEPS = 1000
"""Of an episode, where the environment names no limit."""
PACKAGES = {"ALE": ("ale_py", "atari")}
"""Namespaces that gymnasium does not know until a package is imported, and our extra with it."""


class GymnasiumFamily(VariedFamily):
    """Robots of one gymnasium environment; see `reptile_agent.task.TaskFamily`.

    An environment has nothing to follow, so the references stand still where `reference` says:
    judge these families by their rewards, not by the tracking error.
    """

    robot: RobotSpec
    env_id: str
    """As gymnasium.make takes it."""
    fixed: dict[str, Any]
    """Keywords of the environment that are the same in every task."""
    episode_steps: int
    """Steps after which an episode is cut."""
    plan_horizon: int = 15
    """Steps that a planner should look ahead."""
    plan_noise: tuple[float, ...]
    """Standard deviation with which a planner should vary each action, in the action's unit."""
    planning: Planning = Planning()
    """How else it should vary plans, and weigh them."""

    def splits(self) -> dict[str, list[Task]]:
        """Tasks by split; the same at every call."""
        return query.split(self.variations)

    def make_sim(self, tasks: list[Task]) -> VecSim:
        """One environment a task, stepped one after the other."""
        from sim.backends.gymnasium_sim import GymnasiumSim

        return GymnasiumSim(self, tasks)

    def make_env(self, task: Task) -> gymnasium.Env:
        """The environment of a task: every variation is a keyword, whole numbers as int.

        Raises:
            LookupError: no such environment or keyword, or its package is not installed.
            ValueError: a value that the environment refuses.
        """
        values = {v.name: task.get(v.name, v.nominal) for v in self.variations}
        numbers = {k: int(v) if float(v).is_integer() else v for k, v in values.items()}
        return make(self.env_id, self.fixed | numbers)

    def change(self, env: gymnasium.Env, task: Task) -> gymnasium.Env:
        """The environment with another task: `env` itself where it can be changed, else a new one.

        A new one, not yet reset, is what a family of keywords needs: they are read once.
        """
        return self.make_env(task)

    def reference(self) -> np.ndarray:
        """Where the references stand, float32 [ref_dim]: at 0, or at the limit next to it."""
        signals = self.robot.references
        return np.array([np.clip(0.0, s.low, s.high) for s in signals], np.float32)

    def feasible(self, task: Task) -> bool:
        """Always: nothing general can be said of an environment."""
        return True

    def reward(self, obs: Tensor, action: Tensor, next_obs: Tensor, reference: Tensor) -> Tensor:
        """Unknown here: only the environment itself rewards, and its simulator's steps say so.

        Raises:
            LookupError: always, where a family does not override it.
        """
        raise LookupError(
            f"only the environment {self.env_id} knows its reward, so no planner can weigh plans "
            f"for family '{self.name}'; train without a model (PPO, SAC), or derive a family "
            f"from GymnasiumFamily and give it a reward, as sim/families/cartpole_discrete does"
        )


class NamedFamily(GymnasiumFamily):
    """A gymnasium environment named on the spot, with some of its keywords varying.

    Args:
        name: `gymnasium:ID?keyword=...`.

    Raises:
        LookupError: no such environment or keyword, or its package is not installed.
        ValueError: the name cannot be read, or the spaces are no list of signals.
    """

    def __init__(self, name: str) -> None:
        asked = query.parse(name)
        self.name, self.env_id, self.fixed = name, asked.env_id, asked.fixed
        defaults = keywords(asked.env_id)
        self.variations = query.variations(asked, defaults.get)
        env = self.make_env({})
        self.robot = robot_of(name, env)
        limit = env.spec.max_episode_steps if env.spec else None
        self.episode_steps = limit or DEFAULT_STEPS
        self.plan_noise = tuple((a.high - a.low) / 4 for a in self.robot.actions)
        env.close()


def from_name(name: str) -> GymnasiumFamily:
    """The family of a name that begins with `gymnasium:`; see NamedFamily."""
    return NamedFamily(name)


def make(env_id: str, chosen: dict[str, Any]) -> gymnasium.Env:
    """gymnasium.make, whose errors are turned into ours.

    Raises:
        LookupError: no such environment or keyword, or a package is missing.
        ValueError: the environment refuses a value.
    """
    known = keywords(env_id)
    try:
        return gymnasium.make(env_id, disable_env_checker=True, **chosen)
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        raise LookupError(f"environment {env_id} needs a package: {error}") from error
    except (gymnasium.error.Error, ValueError, RuntimeError) as error:
        raise ValueError(f"environment {env_id} refuses {chosen}: {error}") from error
    except TypeError as error:
        raise LookupError(
            f"environment {env_id} does not take {chosen}: {error}; it knows the keywords "
            f"{', '.join(known)}"
        ) from error


def keywords(env_id: str) -> dict[str, Any]:
    """Keywords of an environment's constructor with their defaults, None where there is none.

    Raises:
        LookupError: no such environment, or its package is not installed.
    """
    module, _, own_id = env_id.rpartition(":")
    package, extra = PACKAGES.get(own_id.split("/")[0], (module, ""))
    try:
        if package:
            importlib.import_module(package)
        spec = gymnasium.spec(own_id)
        creator = spec.entry_point or spec.vector_entry_point
        if isinstance(creator, str):
            creator = load_env_creator(creator)
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        mend = f"pip install 'reptile-agent[{extra}]'" if extra else "install it"
        raise LookupError(f"environment {env_id} needs a package: {error}; {mend}") from error
    except gymnasium.error.Error as error:
        raise LookupError(
            f"gymnasium has no environment '{env_id}': {error} Another package's environment is "
            f"named with the module that registers it: gymnasium:my_package:Name-v0"
        ) from error
    parameters = inspect.signature(creator).parameters.values() if creator else ()
    own = {
        p.name: None if p.default is p.empty else p.default
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    return own | spec.kwargs


def robot_of(name: str, env: gymnasium.Env) -> RobotSpec:
    """Signals of an environment's spaces; the first observation stands in as the reference.

    Raises:
        ValueError: images, or spaces that are no list of numbers.
    """
    observed, acted = env.observation_space, env.action_space
    if not isinstance(observed, gymnasium.spaces.Box):
        raise ValueError(f"'{name}' observes {observed}; only a Box of numbers can be learned from")
    if len(observed.shape) > 1 and observed.dtype == np.uint8:
        raise ValueError(
            f"'{name}' observes images of shape {observed.shape}; ask for numbers instead, for "
            f"Atari with the keyword obs_type=ram"
        )
    observations = _signals("observation", "position", observed)
    if isinstance(acted, gymnasium.spaces.Discrete):
        last = float(acted.n - 1)
        actions = (Signal(joint="action", quantity="effort", unit="choice", low=0.0, high=last),)
    elif isinstance(acted, gymnasium.spaces.Box):
        actions = _signals("action", "effort", acted)
    else:
        raise ValueError(f"'{name}' is commanded by {acted}; only Box and Discrete are known here")
    return RobotSpec(
        name=name,
        control_period_s=_period_s(env),
        observations=observations,
        actions=actions,
        references=observations[:1],
    )


def _signals(joint: str, quantity: Quantity, box: gymnasium.spaces.Box) -> tuple[Signal, ...]:
    """One signal a component, of unknown unit; limits that are equal are set 1 apart.

    Of unknown meaning, too: any of them may rest, as a goal or a counter does.
    """
    low = np.clip(box.low.astype(float), -UNBOUNDED, UNBOUNDED).ravel()
    high = np.clip(box.high.astype(float), -UNBOUNDED, UNBOUNDED).ravel()
    high = np.where(high > low, high, low + 1.0)
    return tuple(
        Signal(
            joint=f"{joint}_{i}",
            quantity=quantity,
            unit="1",
            low=low[i],
            high=high[i],
            may_rest=joint == "observation",
        )
        for i in range(low.size)
    )


def _period_s(env: gymnasium.Env) -> float:
    """One step: the environment's `dt` or `tau`, else one rendered frame, else a second."""
    for attribute in ("dt", "tau"):
        value = getattr(env.unwrapped, attribute, None)
        if isinstance(value, int | float) and 0 < value <= 10:
            return float(value)
    return 1.0 / env.metadata.get("render_fps", 1.0)

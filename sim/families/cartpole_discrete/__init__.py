"""gymnasium's CartPole-v1, pushed left or right: the smallest family that is not MuJoCo."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv

from reptile_agent.spec import RobotSpec, Signal
from reptile_agent.task import Task
from sim import splits
from sim.gymnasium_family import GymnasiumFamily
from sim.variations import Variation

if TYPE_CHECKING:
    from torch import Tensor

POLE_KG, HALF_POLE_M, FORCE_N = 0.1, 0.5, 10.0
"""As in gymnasium/envs/classic_control/cartpole.py."""
END_M, END_RAD = 2.4, 12 * 2 * math.pi / 360
"""Where an episode ends: the cart's distance from the middle, the pole's angle."""
SPEED_M_S, SPEED_RAD_S = 10.0, 10.0
"""Limits where gymnasium names none: an episode ends long before."""


class Variant(gymnasium.Wrapper):
    """One cart-pole, as its task says; can be changed while it moves."""

    def __init__(self, env: gymnasium.Env, task: Task) -> None:
        super().__init__(env)
        cart = env.unwrapped
        assert isinstance(cart, CartPoleEnv)
        self.cart = cart
        self.change(task)

    def change(self, task: Task) -> None:
        """Write the task's values, starting from gymnasium's own."""
        cart = self.cart
        cart.masspole = POLE_KG * task.get("pole_mass", 1.0)
        cart.length = HALF_POLE_M * task.get("pole_length", 1.0)
        # gymnasium derives these two once, in its constructor.
        cart.total_mass = cart.masspole + cart.masscart
        cart.polemass_length = cart.masspole * cart.length
        self._force_n = FORCE_N * task.get("force_gain", 1.0)
        self._friction = task.get("friction", 0.0)
        self._reversed = task.get("reversed", 0.0) > 0.5

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step under the motor's force and the rail's friction.

        The only force on the cart in gymnasium's equations is +force_mag or -force_mag, for the
        whole step. Viscous friction, taken at the step's start as Euler's method takes everything
        else, is one more force on the cart: what the cart feels is exactly their sum.
        """
        right = bool(action) != self._reversed
        assert self.cart.state is not None, "reset comes before step"
        drag_n = self._friction * float(self.cart.state[1])
        self.cart.force_mag = self._force_n - drag_n if right else self._force_n + drag_n
        return self.env.step(int(right))


class CartpoleDiscrete(GymnasiumFamily):
    """Keep a pole upright by pushing its cart left or right; nothing in between."""

    name = "cartpole_discrete"
    folder = Path(__file__).parent
    env_id = "CartPole-v1"
    fixed: dict[str, Any] = {}  # noqa: RUF012  (read only)
    episode_steps = 500
    plan_horizon = 25
    plan_noise = (0.5,)
    robot = RobotSpec(
        name="cartpole_discrete",
        control_period_s=0.02,
        observations=(
            Signal(joint="cart", quantity="position", unit="m", low=-2 * END_M, high=2 * END_M),
            Signal(joint="cart", quantity="velocity", unit="m/s", low=-SPEED_M_S, high=SPEED_M_S),
            Signal(
                joint="pole", quantity="position", unit="rad", low=-2 * END_RAD, high=2 * END_RAD
            ),
            Signal(
                joint="pole", quantity="velocity", unit="rad/s", low=-SPEED_RAD_S, high=SPEED_RAD_S
            ),
        ),
        actions=(Signal(joint="cart", quantity="effort", unit="choice", low=0.0, high=1.0),),
        references=(
            Signal(joint="cart", quantity="position", unit="m", low=-2 * END_M, high=2 * END_M),
        ),
    )
    variations = (
        Variation(
            name="pole_mass",
            unit="x",
            nominal=1.0,
            train=(0.5, 2.0),
            beyond=(0.25, 8.0),
            why="0.1 kg in gymnasium; a weight hung on the pole, up to the cart's own",
            log=True,
        ),
        Variation(
            name="pole_length",
            unit="x",
            nominal=1.0,
            train=(0.7, 1.5),
            beyond=(0.4, 3.0),
            why="1 m in gymnasium; a shorter pole falls faster",
            log=True,
        ),
        Variation(
            name="friction",
            unit="N s/m",
            nominal=0.0,
            train=(0.0, 1.0),
            beyond=(0.0, 4.0),
            why="none in gymnasium; viscous on the rail: at 1 m/s up to 40 % of the motor's force",
        ),
        Variation(
            name="force_gain",
            unit="x",
            nominal=1.0,
            train=(0.6, 1.4),
            beyond=(0.3, 2.0),
            why="10 N in gymnasium; motor constant with temperature, and a sagging battery",
        ),
    )
    held_out = (
        Variation(
            name="reversed",
            unit="0 or 1",
            nominal=0.0,
            train=(0.0, 0.0),
            beyond=(0.0, 1.0),
            why="the motor's leads are exchanged: a wiring mistake after maintenance",
            choices=(0.0, 1.0),
        ),
    )

    def splits(self) -> dict[str, list[Task]]:
        """Frozen tasks by split."""
        return splits.read(self.folder / "splits.json", self.variations)

    def make_env(self, task: Task) -> Variant:
        """The cart-pole of gymnasium, with the task's attributes."""
        return Variant(gymnasium.make(self.env_id, disable_env_checker=True), task)

    def change(self, env: gymnasium.Env, task: Task) -> gymnasium.Env:
        """The same environment: its attributes may change while it moves."""
        assert isinstance(env, Variant)
        env.change(task)
        return env

    def draw_held_out(self, rng: np.random.Generator) -> Task:
        """The motor pushes the other way: no training task does that."""
        return {"reversed": 1.0}

    def feasible(self, task: Task) -> bool:
        """Always: one law, a push by the sign of angle and angular speed, balances every task."""
        return True

    def reward(self, obs: Tensor, action: Tensor, next_obs: Tensor, reference: Tensor) -> Tensor:
        """1 upright on the mark, falling to 0 where the episode ends, and 0 beyond.

        The environment's own reward, 1 a step until the end, tells no plan within the limits from
        another; this one does, and is 0 exactly where that ends.
        """
        away = ((next_obs[..., 0] - reference[..., 0]) / END_M).square()
        lean = (next_obs[..., 2] / END_RAD).square()
        return (1.0 - away).clamp(min=0.0) * (1.0 - lean).clamp(min=0.0)

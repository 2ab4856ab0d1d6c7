"""What every simulator refuses, and what it says of it."""

from __future__ import annotations

import numpy as np

from reptile_agent.task import Task


def some_tasks(family: str, tasks: list[Task]) -> None:
    """Refuse a simulator without lanes.

    Raises:
        ValueError: there are no tasks.
    """
    if not tasks:
        raise ValueError(f"family '{family}': no tasks given; a simulator needs one a lane")


def a_task_per_lane(tasks: list[Task], lanes: int) -> None:
    """Refuse another number of tasks than lanes.

    Raises:
        ValueError: there are more, or fewer.
    """
    if len(tasks) != lanes:
        raise ValueError(f"{len(tasks)} tasks for {lanes} lanes")


def mixing_shape(family: str, shape: tuple[int, ...], expected: tuple[int, int, int]) -> None:
    """Refuse a family's `mixing` of another shape than [lanes, nu, act_dim].

    Raises:
        ValueError: it has another one.
    """
    if shape != expected:
        raise ValueError(
            f"family '{family}': mixing has shape {shape}, expected [lanes, actuators, actions] = "
            f"{expected}"
        )


def finite_start(family: str, qpos: np.ndarray, qvel: np.ndarray) -> None:
    """Refuse an initial state that is none.

    Raises:
        ValueError: a position or velocity is not finite.
    """
    if not (np.isfinite(qpos).all() and np.isfinite(qvel).all()):
        raise ValueError(f"family '{family}': initial_state gives values that are not finite")


def action_shape(shape: tuple[int, ...], lanes: int, act_dim: int) -> None:
    """Refuse actions of another shape.

    Raises:
        ValueError: it is not [lanes, act_dim].
    """
    if shape != (lanes, act_dim):
        raise ValueError(f"actions have shape {shape}, expected {(lanes, act_dim)}")


def finite_action(action: np.ndarray) -> None:
    """Refuse what is not finite.

    Raises:
        ValueError: an action is not; its lane is named.
    """
    # The product is one call, and finite unless an action is not, or is far out of all limits.
    if not np.vdot(action, action) < np.inf and not np.isfinite(action).all():
        lane = int(np.argmin(np.isfinite(action).all(axis=1)))
        raise ValueError(f"the action of lane {lane} is not finite: {action[lane]}")


def diverged(family: str, lane: int, step: int, task: Task, state: np.ndarray) -> str:
    """What to say of a lane whose physics left all bounds."""
    return (
        f"family '{family}', lane {lane} diverged at step {step}: task {task}, state {state}; "
        f"narrow the variation's range"
    )

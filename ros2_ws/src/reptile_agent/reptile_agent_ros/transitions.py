"""Transitions of the life cycle that fail aloud.

rclpy takes what a transition raises for an error and says nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
import traceback
from typing import TypeVar

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

N = TypeVar('N', bound=LifecycleNode)
Transition = Callable[[N, LifecycleState], TransitionCallbackReturn]


def logged(transition: Transition[N]) -> Transition[N]:
    """Log whatever a transition raises; it ends in an error then, which `on_error` cleans up."""

    @functools.wraps(transition)
    def run(node: N, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:
            what = f'{transition.__name__} failed: {type(error).__name__}: {error}'
            node.get_logger().error(f'{what}\n{traceback.format_exc()}')
            return TransitionCallbackReturn.ERROR

    return run

"""The action `~/adapt` of adapter_node: goals are learned in the background, and can be ended."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
import math

from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node
from reptile_agent.onboard.adapted import Adaptation
from reptile_agent.onboard.adapter import Adapter
from reptile_agent_msgs.action import Adapt
from reptile_agent_ros.background import Job

MAX_STEPS = 1000


class AdaptAction:
    """Serves `~/adapt`; all but the learning itself is on the executor's thread.

    Args:
        node: that offers it.
        adapter: that learns.
        learn: has it learn in the background, as `Adapter.learn` is told, and then calls what it
            was given first.
        take: uses and publishes what was learned; raises what learning raised.
        active: whether the node may adapt now.
    """

    def __init__(
        self,
        node: Node,
        adapter: Adapter,
        learn: Callable[..., Job],
        take: Callable[[Future], Adaptation],
        active: Callable[[], bool],
    ) -> None:
        self._adapter, self._learn = adapter, learn
        self._take, self._active = take, active
        self._jobs: dict[bytes, Job] = {}
        self._server = _Server(node, self._begin, self._on_cancel)

    def use(self, adapter: Adapter) -> None:
        """Serve it with another adapter; goals that wait are learned by that one."""
        self._adapter = adapter

    def destroy(self) -> None:
        """Offer it no longer."""
        self._server.destroy()

    def _begin(self, goal: ServerGoalHandle) -> None:
        """Let a goal wait for its turn; one out of reason ends at once, with a sentence."""
        request = goal.request
        try:
            self._check(request)
        except (LookupError, ValueError) as error:
            self._server.finish(goal, partial(_refuse, error))
            return
        self._jobs[bytes(goal.goal_id.uuid)] = self._learn(
            partial(self._done, goal),
            steps=request.steps or None,
            start=request.start or None,
            window=request.window or None,
            tell=lambda step, loss: goal.publish_feedback(Adapt.Feedback(step=step, loss=loss)),
        )

    def _check(self, request: Adapt.Goal) -> None:
        """Whether a request can be served.

        Raises:
            ValueError: it is out of reason, or comes at the wrong time.
            LookupError: too little is remembered yet.
        """
        if not self._active():
            raise ValueError('the node is not active')
        if request.steps > MAX_STEPS:
            raise ValueError(f'steps is {request.steps}; at most {MAX_STEPS} are taken')
        if request.start not in ('', Adapt.Goal.START, Adapt.Goal.LAST):
            raise ValueError(f"start is '{request.start}'; use 'start', 'last' or ''")
        if not self._adapter.ready:
            raise LookupError(f'only {len(self._adapter.replay)} transitions are remembered yet')

    def _on_cancel(self, goal: ServerGoalHandle) -> CancelResponse:
        job = self._jobs.get(bytes(goal.goal_id.uuid))
        if job is None:
            return CancelResponse.REJECT
        job.stop.set()
        return CancelResponse.ACCEPT

    def _done(self, goal: ServerGoalHandle, future: Future) -> None:
        del self._jobs[bytes(goal.goal_id.uuid)]
        try:
            end = partial(_answer, self._take(future))
        except (LookupError, ValueError, RuntimeError) as error:
            end = partial(_refuse, error)
        self._server.finish(goal, end)


class _Server(ActionServer):
    """An action server that leaves it to others when a goal is done.

    Args:
        node: that offers it.
        begin: called with a goal that is to be worked on.
        cancel: called with a goal that is to be ended.
    """

    def __init__(
        self,
        node: Node,
        begin: Callable[[ServerGoalHandle], None],
        cancel: Callable[[ServerGoalHandle], CancelResponse],
    ) -> None:
        self._begin = begin
        super().__init__(node, Adapt, '~/adapt', begin, cancel_callback=cancel)

    def notify_execute(
        self, goal_handle: ServerGoalHandle, execute_callback: Callable | None
    ) -> None:
        """Only begin: a callback that awaits is polled at full speed by rclpy's executors."""
        self._begin(goal_handle)

    def finish(self, goal: ServerGoalHandle, end: Callable[[ServerGoalHandle], object]) -> None:
        """Have `end` set the goal's last state and give its result."""
        super().notify_execute(goal, end)


def _answer(found: Adaptation, goal: ServerGoalHandle) -> Adapt.Result:
    if goal.is_cancel_requested:
        goal.canceled()
    elif found.stop == 'cancelled':
        goal.abort()
    else:
        goal.succeed()
    return Adapt.Result(
        accepted=found.verdict.accepted,
        verdict=found.verdict.word,
        reason=found.verdict.reason,
        before=found.evidence.live_before,
        after=found.evidence.live_after,
        duration_ms=found.duration_ms,
    )


def _refuse(error: Exception, goal: ServerGoalHandle) -> Adapt.Result:
    (goal.canceled if goal.is_cancel_requested else goal.abort)()
    return Adapt.Result(
        accepted=False, verdict='refused', reason=str(error), before=math.nan, after=math.nan
    )

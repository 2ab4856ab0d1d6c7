"""What an outer step learns from: minibatches of some tasks, to adapt on, and queries."""

from __future__ import annotations

import numpy as np

from reptile_agent.meta.learner import RobotLearner, TensorBatch
from reptile_agent.meta.online import minibatches
from reptile_agent.meta.train_config import TrainConfig
from reptile_agent.meta.tried_plans import asked_about_tried
from reptile_agent.replay import Replay
from reptile_agent.transition import Batch


def meta_batch(
    learner: RobotLearner,
    config: TrainConfig,
    replay: Replay,
    tried: Batch | None,
    rehearsal: Batch,
    rng: np.random.Generator,
) -> tuple[np.ndarray, TensorBatch, TensorBatch]:
    """Lanes, their support minibatches and their queries, each lane at some moment of its past.

    Queries are of what came after, or of plans that were tried on the same task: what is learned
    from a window of the robot's motion is to hold for what it does not do. MAML judges by them, to
    Reptile they are further inner steps.

    Args:
        learner: what the minibatches are made for.
        config: of the run.
        replay: what the robots did.
        tried: segments of plans that were tried, [tasks, n, ...]; None: there are none.
        rehearsal: segments of all tasks, [n, ...].
        rng: of the draw.

    Returns:
        int [lanes]; `[lanes, k, batch, ...]`; `[lanes, q, batch, ...]`, q may be 0.
    """
    size = min(config.meta_batch, replay.lanes)
    lanes = rng.choice(replay.lanes, size=size, replace=False)
    adapting = config.adaptation.model_copy(
        update={"inner_steps": config.train_inner_steps, "holdout": 0}
    )
    after = config.query_window if config.query_steps else 0
    oldest = max(len(replay) - adapting.window, after + 1)
    now = rng.integers(after, oldest, size=lanes.size)
    support = minibatches(learner, replay, adapting, rehearsal, rng, now, lanes)
    later = adapting.model_copy(
        update={"inner_steps": max(config.query_steps, 1), "window": max(after, 2)}
    )
    query = minibatches(
        learner,
        replay,
        later,
        rehearsal,
        rng,
        now - after,
        lanes,
        first_step=None if config.queries_judge else config.train_inner_steps,
    )
    if not config.query_steps:
        return lanes, support, {name: value[:, :0] for name, value in query.items()}
    return lanes, support, asked_about_tried(query, tried, lanes, rng)

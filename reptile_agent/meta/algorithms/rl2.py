"""RL2: fast reinforcement learning by slow reinforcement learning (Duan et al. 2016).

arXiv 1611.02779, section 2.2: a trial is several episodes of one task, through which the policy's
memory lasts; the outer loop raises the discounted return of whole trials, so that what is found
out in one episode pays in the next. There is no inner loop: the learner, a
`RecurrentLearner`, remembers. The outer loop here is PPO.
"""

from __future__ import annotations

from reptile_agent.meta.algorithms import Direction, ppo
from reptile_agent.meta.learner import Params, TensorBatch
from reptile_agent.meta.learners.policy_gradient import PolicyLearner


def direction(learner: PolicyLearner, params: Params, batch: TensorBatch, clip: float) -> Direction:
    """Gradient of PPO's objective over whole trials `[tasks, lanes, episodes * steps, ...]`.

    Advantages run on from one episode into the next: an episode's end is no end of the trial.
    """
    return ppo.direction(learner, params, batch, clip)

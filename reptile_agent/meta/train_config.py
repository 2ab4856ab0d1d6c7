"""What a meta-training run does, for learners that learn from replay."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.meta.agent import AgentConfig
from reptile_agent.meta.bounds import check_bounds
from reptile_agent.meta.epsilon import Schedule
from reptile_agent.meta.inner_loop import InnerOptimizer

LEAST = {
    "seed": 0,
    "round_steps": 2,
    "guided_rounds": 0,
    "excitation": 0,
    "explore": 0,
    "fit_iterations": 0,
    "fit_batch": 1,
    "iterations": 0,
    "meta_batch": 1,
    "train_inner_steps": 1,
    "query_steps": 0,
    "query_window": 1,
    "learn_lr": 0,
    "lr_scale": 0,
    "priority": 0,
    "inner.clip_norm": 0,
    "inner.beta2": 0,
    "inner.proximal": 0,
    "samples": 1,
    "doubt": 0,
    "model.hidden": 1,
    "model.members": 1,
    "model.segment": 1,
    "model.context": 0,
    "actor_critic.hidden": 1,
    "actor_critic.tau": 0,
    "model_policy.hidden": 1,
    "model_policy.members": 1,
    "model_policy.segment": 1,
    "model_policy.context": 0,
    "model_policy.policy_hidden": 1,
    "model_policy.model_steps": 0,
}
"""Setting -> smallest value."""
ABOVE = {"fit_lr": 0, "epsilon": 0, "inner.eps": 0}
"""Setting -> what it must be above."""
MOST = {"inner.beta2": 0.999999, "actor_critic.tau": 1}
"""Setting -> largest value."""


@dataclass(frozen=True)
class TrainConfig(AgentConfig):
    """What a meta-training run does."""

    algorithm: Literal["reptile", "fomaml", "maml", "joint", "scratch"] = "reptile"
    """How the start is learned: reptile, first- or second-order MAML, joint training (domain
    randomization), or not at all (scratch: fresh parameters)."""
    seed: int = 0
    """Of everything."""
    tasks: int = 64
    """Training tasks simulated side by side."""
    dataset: Path | None = None
    """Recorded robots (`reptile-agent dataset`): tasks beside the simulated ones."""
    dataset_lanes: int = 1
    """How much a recorded task weighs beside a simulated one's 1."""
    rounds: int = 3
    """Rounds of experience; the agent drives from the second on."""
    round_steps: int = 150
    """Control periods per task and round."""
    guided_rounds: int = 0
    """Rounds after the first in which the simulator itself plans instead of the agent, before the
    agent drives: for robots that no half-learned model makes move."""
    tried_plans: int = 0
    """Learner dynamics: noisy plans per task and control period, in all rounds but the first, that
    the simulator carries out on the side; the model is fitted to about as much of them as of what
    robots did, which is one plan in a hundred that it is asked about, and they are the queries of
    the meta-algorithm."""
    excitation: float = 1.5
    """Noise of the first round, in units of the family's plan_noise."""
    explore: float = 0.5
    """Noise added to the agent's actions in later rounds, in the same units."""
    fit_iterations: int = 900
    """Joint-training steps after each round: Reptile starts from a model that predicts."""
    fit_batch: int = 384
    """Segments in each of them."""
    fit_lr: float = 1e-3
    """Their step size (Adam)."""
    priority: float = 0.0
    """Exponent on a segment's error (alpha of prioritized replay, arXiv 1511.05952): of each task,
    what the learner was more wrong about is drawn more often in these steps. 0 draws all alike; 0.6
    is the paper's for critics, 0.3 comes to the same for a model, whose errors are squared."""
    priority_correction: float = 0.4
    """How far weights make up for that (beta), 0 to 1."""
    iterations: int = 400
    """Outer steps of the meta-algorithm after the last round."""
    meta_batch: int = 16
    """Tasks per outer step, at most all there are; 1 is the serial Reptile of the paper."""
    outer: Literal["sgd", "adam"] = "adam"
    """Outer optimizer; sgd is params + epsilon * mean(adapted - params)."""
    epsilon: float = 4e-3
    """Outer step size."""
    epsilon_schedule: Schedule = "linear"
    """How epsilon falls over the outer steps: not, linearly, or as a cosine, to zero."""
    learn_lr: float = 0.0
    """Outer step size of the logarithms of the inner step sizes, one per parameter (Meta-SGD,
    arXiv 1707.09835); 0 leaves them at adaptation.inner_lr times lr_scale."""
    keep: float = 0.0
    """Algorithm reptile, learner dynamics with a context: chance that a task's inner loop goes on
    from the context that the last one which did came to, instead of from the start's, which then
    stays. Ten steps from nothing tell little of a task, and weights learn to use no more than they
    are told."""
    inner: InnerOptimizer = field(default_factory=InnerOptimizer)
    """Optimizer of the inner loop."""
    adaptation: AdaptationConfig = AdaptationConfig(
        inner_steps=10, inner_lr=0.12, batch=48, rehearsal=0
    )
    """The inner loop as it will run on the robot."""
    train_inner_steps: int = 10
    """Inner steps per task in meta-training (k); the robot may take more."""
    query_steps: int = 5
    """Minibatches per task of what came after the inner loop's window, or of tried plans if there
    are any: they judge the adapted parameters in MAML, and are the last inner steps in Reptile."""
    query_window: int = 25
    """Transitions after the inner loop's window that they are drawn from, to within a segment."""
    compiled: bool = False
    """Compile the inner loop: seconds to a minute at first, and meta-training some times faster
    from then on. Another machine or compiler gives other last bits."""
    lr_scale: dict[str, float] = field(default_factory=dict)
    """Factor on the inner step size by prefix of the parameter's name, such as w:0.5."""

    def check(self) -> None:
        """Refuse what no training can do.

        Raises:
            ValueError: a value is out of its range.
        """
        check_bounds(self, LEAST, ABOVE, MOST)
        if self.rounds < 1:
            raise ValueError(
                f"rounds must be 1 or more, got {self.rounds}: the first gathers what there is to "
                f"learn from"
            )
        if self.tried_plans < 0 or (self.tried_plans and self.learner != "dynamics"):
            raise ValueError(
                f"tried_plans must be 0 or more, and 0 with any learner but dynamics, the one that "
                f"plans; got {self.tried_plans} with {self.learner}"
            )
        if not 0 <= self.keep < 1 or (self.keep and not self._has_contexts()):
            raise ValueError(
                f"keep must be 0 or more and below 1, and 0 unless algorithm is reptile, learner "
                f"dynamics, model.context above 0 and learn_lr 0; got {self.keep} with "
                f"{self.algorithm}, {self.learner}, {self.model.context} and {self.learn_lr:g}"
            )
        deaf, steps = self.model_policy.model_steps, self.train_inner_steps
        if not self.queries_judge:
            steps += self.query_steps
        learns = self.iterations and self.algorithm != "scratch"
        if self.learner == "model_policy" and learns and steps <= deaf:
            raise ValueError(
                f"train_inner_steps must be above model_policy.model_steps, from which on the "
                f"policy moves; got {self.train_inner_steps} and {deaf}"
            )
        if not 0 <= self.priority_correction <= 1:
            raise ValueError(f"priority_correction must be 0..1, got {self.priority_correction}")

    @property
    def queries_judge(self) -> bool:
        """Whether queries judge the adapted parameters, or are further inner steps."""
        return self.algorithm in ("fomaml", "maml")

    def _has_contexts(self) -> bool:
        """Whether inner loops have a context that can be kept."""
        reptile = self.algorithm == "reptile" and self.learn_lr == 0
        return reptile and self.learner == "dynamics" and self.model.context > 0

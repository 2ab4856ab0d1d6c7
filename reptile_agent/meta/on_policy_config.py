"""What a run of on-policy meta-training does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from reptile_agent.meta.bounds import check_bounds
from reptile_agent.meta.epsilon import Schedule
from reptile_agent.meta.inner_loop import InnerOptimizer
from reptile_agent.meta.learners.policy_gradient import PolicyConfig
from reptile_agent.meta.on_policy import Sampling
from reptile_agent.task import Task, TaskFamily

LEAST = {
    "seed": 0,
    "iterations": 0,
    "episodes": 1,
    "outer_steps": 1,
    "trial_episodes": 1,
    "inner_steps": 0,
    "learn_lr": 0,
    "lr_scale": 0,
    "eta": 0,
    "inner.clip_norm": 0,
    "inner.beta2": 0,
    "inner.proximal": 0,
    "policy.hidden": 1,
    "policy.value_weight": 0,
    "policy.entropy_weight": 0,
    "sampling.discount": 0,
    "sampling.gae_lambda": 0,
}
"""Setting -> smallest value."""
ABOVE = {
    "inner_lr": 0,
    "epsilon": 0,
    "clip": 0,
    "outer_clip_norm": 0,
    "eta_target": 0,
    "inner.eps": 0,
    "policy.initial_std": 0,
}
"""Setting -> what it must be above."""
MOST = {"inner.beta2": 0.999999, "sampling.discount": 1, "sampling.gae_lambda": 1}
"""Setting -> largest value."""


@dataclass(frozen=True)
class OnPolicyConfig:
    """What a meta-training run of a policy does."""

    algorithm: Literal[
        "promp", "maml", "fomaml", "reptile", "rl2", "joint", "oracle", "scratch"
    ] = "promp"
    """How the start is learned. joint: PPO on all tasks (domain randomization); oracle: PPO with
    a policy of its own for each task; scratch: not at all."""
    seed: int = 0
    """Of everything."""
    split: str = "train"
    """Whose tasks are trained on; an oracle names the split on which it is judged."""
    iterations: int = 60
    """Rounds of experience, each followed by `outer_steps`."""
    meta_batch: int = 16
    """Tasks per iteration; an oracle trains on all of the split at once."""
    episodes: int = 5
    """Episodes per task, before and after each inner step. The algorithms without an inner loop
    take (inner_steps + 1) times as many at once."""
    inner_steps: int = 1
    """Inner steps per task in meta-training (k)."""
    inner_lr: float = 0.1
    """Inner step size (alpha); MAML's and ProMP's."""
    inner: InnerOptimizer = InnerOptimizer(clip_norm=0.0)
    """Optimizer of the inner loop; advantages are normalised, so gradients need no clip."""
    lr_scale: dict[str, float] = field(default_factory=dict)
    """Factor on the inner step size by prefix of the parameter's name, such as value:0.5."""
    outer: Literal["sgd", "adam"] = "adam"
    """Outer optimizer; sgd with reptile is params + epsilon * mean(adapted - params)."""
    learn_lr: float = 0.0
    """Outer step size of the logarithms of the inner step sizes, one per parameter (Meta-SGD,
    arXiv 1707.09835); 0 leaves them at inner_lr times lr_scale."""
    outer_steps: int = 5
    """Outer steps on the same episodes (E), of promp, rl2, joint and oracle, whose objective is
    clipped; the others take one."""
    epsilon: float = 1e-3
    """Outer step size. Who takes one outer step per iteration wants one about 5 times as
    large."""
    epsilon_schedule: Schedule = "linear"
    """How epsilon falls over the run."""
    outer_clip_norm: float = 1.0
    """Outer gradients longer than this are scaled down to it."""
    clip: float = 0.3
    """How far promp, rl2, joint and oracle may move a probability, as a ratio less 1; ProMP's."""
    eta: float = 5e-4
    """First weight of promp's divergence penalty; its authors'."""
    eta_target: float = 0.01
    """Divergence in nats that the penalty's weight is adapted to."""
    trial_episodes: int = 2
    """Episodes in turn that rl2's memory lasts for in training."""
    sampling: Sampling = field(default_factory=Sampling)
    """How experience is gathered and credited."""
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    """The networks."""

    @property
    def has_inner_loop(self) -> bool:
        """Whether meta-training adapts."""
        return self.algorithm in ("promp", "maml", "fomaml", "reptile")

    @property
    def clipped(self) -> bool:
        """Whether the outer objective is, so that several steps on the same episodes are safe."""
        return self.algorithm in ("promp", "rl2", "joint", "oracle")

    def tasks(self, family: TaskFamily) -> list[Task]:
        """What is trained on.

        Raises:
            ValueError: the configuration contradicts itself or the family.
        """
        check_bounds(self, LEAST, ABOVE, MOST)
        splits, steps = family.splits(), self.sampling.episode_steps
        if not splits.get(self.split):
            raise ValueError(
                f"family '{family.name}' has no tasks in a split '{self.split}' "
                f"(has: {', '.join(name for name, tasks in splits.items() if tasks)})"
            )
        tasks = splits[self.split]
        if self.algorithm != "oracle" and not 1 <= self.meta_batch <= len(tasks):
            raise ValueError(
                f"meta_batch must be 1..{len(tasks)} (size of the {self.split} split of "
                f"'{family.name}'), got {self.meta_batch}"
            )
        if not 1 <= steps <= family.episode_steps:
            raise ValueError(
                f"sampling.episode_steps must be 1..{family.episode_steps} (an episode of "
                f"'{family.name}'), got {steps}"
            )
        if self.has_inner_loop and self.inner_steps < 1:
            raise ValueError(f"{self.algorithm} needs inner_steps of 1 or more; joint needs none")
        if self.learn_lr > 0 and not self.has_inner_loop:
            raise ValueError(
                f"learn_lr must be 0 with {self.algorithm}, which takes no inner steps; got "
                f"{self.learn_lr}"
            )
        per_task = self.episodes * (self.inner_steps + 1)
        if self.algorithm == "rl2" and per_task % self.trial_episodes:
            raise ValueError(
                f"episodes * (inner_steps + 1) = {per_task} must be a multiple of "
                f"trial_episodes = {self.trial_episodes}, so that rl2 sees as many as others"
            )
        return tasks

"""Experience of the policy that is learned: episodes of many tasks side by side, and advantages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from reptile_agent.meta.inner_loop import InnerOptimizer, inner_loop
from reptile_agent.meta.learner import Params, TensorBatch
from reptile_agent.meta.learners.policy_gradient import PolicyLearner
from reptile_agent.task import VecSim

RIDGE = 1e-4
"""Of the baseline's regression, for each step of experience."""


@dataclass(frozen=True)
class Sampling:
    """How experience is gathered and credited."""

    episode_steps: int = 100
    """Control periods of an episode, at most the family's."""
    discount: float = 0.95
    """Gamma. ProMP has 0.99; of so few episodes it leaves more noise than it mends."""
    gae_lambda: float = 0.97
    """Of the generalized advantage estimate (arXiv 1506.02438); 1 trusts returns alone."""
    fit_baseline: bool = True
    """Correct the value function in each task by a fit to its returns before it is used."""


@dataclass(frozen=True)
class Experience:
    """Trials of `episodes` episodes in turn; tensors [tasks, lanes, episodes * steps, ...]."""

    episodes: int
    inputs: TensorBatch
    """What the policy saw; one step longer: what it would have seen next."""
    action: Tensor
    head: Tensor
    """Of the distribution that the action was drawn from."""
    reward: Tensor
    weight: Tensor
    """1 until an episode is over for good, then 0 until the next begins."""
    terminal: Tensor
    """1 where nothing comes after this step, because the trial's last episode is over for good."""

    @property
    def returns(self) -> Tensor:
        """Undiscounted return of every episode, [tasks, lanes, episodes]."""
        return (self.reward * self.weight).unflatten(-1, (self.episodes, -1)).sum(-1)

    @property
    def steps(self) -> Tensor:
        """Control periods that every episode lasted, [tasks, lanes, episodes]."""
        return self.weight.unflatten(-1, (self.episodes, -1)).sum(-1)


@torch.no_grad()
def sample(
    sim: VecSim,
    learner: PolicyLearner,
    params: Params,
    tasks: int,
    steps: int,
    rng: np.random.Generator,
    episodes: int = 1,
) -> Experience:
    """Drive every lane through one trial of episodes, all lanes in step.

    The policy's memory is empty at the trial's start and lasts to its end. A lane whose episode
    is over for good waits for the others.

    Args:
        sim: lanes in the order of the tasks, as many for each.
        learner: of the policy.
        params: of all lanes, or [tasks, ...].
        tasks: number of them.
        steps: control periods of an episode.
        rng: of starts and actions.
        episodes: in turn.
    """
    lanes, actions = sim.num_envs, learner.actions
    memory = learner.memory(lanes)
    rows: list[TensorBatch] = []
    inputs = {
        "last_action": torch.zeros(lanes, actions.dim),
        "last_reward": torch.zeros(lanes),
        "last_over": torch.zeros(lanes),
    }
    for episode in range(episodes):
        sim.reset(seed=int(rng.integers(2**31)))
        alive = np.ones(lanes, bool)
        noise = rng.standard_normal((steps, lanes, actions.outputs), dtype=np.float32)
        for t in range(steps):
            inputs |= _look(sim)
            head, memory = learner.step(params, memory, inputs)
            action = actions.sample(head, torch.from_numpy(noise[t]))
            _, reward, terminated, _ = sim.step(actions.command(action).numpy())
            over = terminated if episode == episodes - 1 else np.zeros(lanes, bool)
            gained = torch.from_numpy(np.where(alive, reward, 0.0).astype(np.float32))
            row = {"action": action, "head": head, "reward": gained}
            row |= {name: inputs[name] for name in learner.inputs}
            rows.append(row | {"weight": _floats(alive), "terminal": _floats(alive & over)})
            alive &= ~terminated
            ended = ~alive if t < steps - 1 else np.ones(lanes, bool)
            inputs |= {"last_action": action, "last_reward": gained, "last_over": _floats(ended)}
    inputs |= _look(sim)

    def of_tasks(name: str, *last: Tensor) -> Tensor:
        return torch.stack([*(row[name] for row in rows), *last], 1).unflatten(0, (tasks, -1))

    return Experience(
        episodes=episodes,
        inputs={name: of_tasks(name, inputs[name]) for name in learner.inputs},
        **{name: of_tasks(name) for name in ("action", "head", "reward", "weight", "terminal")},
    )


def generalized_advantages(
    reward: Tensor,
    value: Tensor,
    weight: Tensor,
    terminal: Tensor,
    discount: float,
    gae_lambda: float,
) -> Tensor:
    """Generalized advantage estimate (Schulman et al. 2016, arXiv 1506.02438, equation 16).

    A terminal step is worth its reward alone; where time merely ran out, the value of what would
    have come is added. Steps of weight 0 are skipped as if they were not there.

    Args:
        reward: [..., steps].
        value: [..., steps + 1].
        weight: [..., steps].
        terminal: [..., steps].
        discount: gamma.
        gae_lambda: lambda.
    """
    advantages = torch.zeros_like(reward)
    next_value, later = value[..., -1], torch.zeros_like(value[..., -1])
    for t in reversed(range(reward.shape[-1])):
        goes_on, live = discount * (1 - terminal[..., t]), weight[..., t] > 0
        now = reward[..., t] + goes_on * (next_value + gae_lambda * later) - value[..., t]
        later = torch.where(live, now, later)
        next_value = torch.where(live, value[..., t], next_value)
        advantages[..., t] = torch.where(live, now, 0.0)
    return advantages


def fitted(features: Tensor, surprise: Tensor, weight: Tensor) -> Tensor:
    """What a value function is to be corrected by in each task, [tasks, lanes, steps + 1].

    A ridge regression of what it missed on features, their squares and time: the linear baseline
    of Duan et al. 2016 (arXiv 1604.06778), which MAML and ProMP use. Before the first inner step a
    value function knows nothing of the task, and what it misses would drown what actions bring.

    Args:
        features: [tasks, lanes, steps + 1, feature_dim].
        surprise: returns less values, [tasks, lanes, steps].
        weight: [tasks, lanes, steps].
    """
    time = torch.linspace(-1.0, 1.0, features.shape[-2])[:, None].expand(*features.shape[:-1], 1)
    columns = [features, features.square(), time, time.square(), torch.ones_like(time)]
    inputs = torch.cat(columns, dim=-1).clamp(-10.0, 10.0)
    seen = (inputs[:, :, :-1] * weight[..., None]).flatten(1, 2)
    wanted = (surprise * weight).flatten(1, 2)[..., None]
    gram = seen.mT @ seen + RIDGE * weight.sum((1, 2))[:, None, None] * torch.eye(seen.shape[-1])
    # `_ex` does not raise where experience is no number: the trainer says so, with the batch.
    solution, _ = torch.linalg.solve_ex(gram, seen.mT @ wanted)
    return (inputs.flatten(1, 2) @ solution).reshape(inputs.shape[:-1])


@torch.no_grad()
def minibatch(
    learner: PolicyLearner, params: Params, experience: Experience, sampling: Sampling
) -> TensorBatch:
    """What a policy's losses need, [tasks, lanes, steps, ...].

    The value function predicts the discounted mean of the reward to come, in the rewards' usual
    size, so that its error is of the size of 1 in every family. Advantages have mean 0 and
    standard deviation 1 in each task.

    Args:
        learner: of the policy.
        params: that sampled; their value function is the baseline.
        experience: of `sample`.
        sampling: how it is credited.
    """
    _, value = learner.evaluate(params, experience.inputs)
    reward = experience.reward * ((1 - sampling.discount) / learner.normaliser.reward_scale.item())
    weight, terminal, discount = experience.weight, experience.terminal, sampling.discount
    if sampling.fit_baseline:
        surprise = generalized_advantages(reward, value, weight, terminal, discount, 1.0)
        value = value + fitted(learner.features(experience.inputs), surprise, weight)
    advantage = generalized_advantages(
        reward, value, weight, terminal, discount, sampling.gae_lambda
    )
    total = weight.sum((1, 2), keepdim=True)
    centred = (advantage - (advantage * weight).sum((1, 2), keepdim=True) / total) * weight
    std = (centred.square().sum((1, 2), keepdim=True) / total).sqrt()
    return {
        **{name: seen[:, :, :-1] for name, seen in experience.inputs.items()},
        "action": experience.action,
        "head": experience.head,
        "log_prob": learner.actions.log_prob(experience.head, experience.action),
        "advantage": centred / (std + 1e-8),
        "value_target": value[..., :-1] + advantage,
        "weight": weight,
    }


def adapt_on_policy(
    sim: VecSim,
    learner: PolicyLearner,
    optimizer: InnerOptimizer,
    params: Params,
    lr: Params,
    inner_steps: int,
    sampling: Sampling,
    rng: np.random.Generator,
) -> tuple[list[Experience], list[TensorBatch]]:
    """Sample, step, sample, step...: each inner step of each task on fresh episodes of its own.

    Args:
        sim: lanes in the order of the tasks, as many for each.
        learner: of the policy.
        optimizer: of the inner loop.
        params: where from, [tasks, ...].
        lr: inner step size of each parameter.
        inner_steps: k.
        sampling: how experience is gathered and credited.
        rng: of starts and actions.

    Returns:
        The k + 1 rounds of experience, before and after every inner step, and the minibatches
        made of them.
    """

    def one_step(start: Params, state: Params, batch: TensorBatch) -> tuple[Params, Params]:
        adapted, state, _ = inner_loop(learner, optimizer, start, state, batch, lr)
        return adapted, state

    tasks = next(iter(params.values())).shape[0]
    state = vmap(optimizer.init)(params)
    rounds, batches = [], []
    for step in range(inner_steps + 1):
        rounds.append(sample(sim, learner, params, tasks, sampling.episode_steps, rng))
        batches.append(minibatch(learner, params, rounds[-1], sampling))
        if step < inner_steps:
            one = {name: value[:, None] for name, value in batches[-1].items()}
            params, state = vmap(one_step)(params, state, one)
    return rounds, batches


def stacked(batches: list[TensorBatch]) -> TensorBatch:
    """Minibatches [tasks, ...] one after the other, [tasks, k, ...]."""
    return {name: torch.stack([batch[name] for batch in batches], 1) for name in batches[0]}


def _look(sim: VecSim) -> TensorBatch:
    return {
        "obs": torch.from_numpy(np.array(sim.obs, np.float32)),
        "reference": torch.from_numpy(sim.reference(1)[:, 0]),
    }


def _floats(flags: np.ndarray) -> Tensor:
    return torch.from_numpy(flags.astype(np.float32))

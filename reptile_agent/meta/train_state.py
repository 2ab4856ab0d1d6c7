"""What a meta-training run carries from iteration to iteration, and how a checkpoint holds it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from reptile_agent.meta.agent import Agent, Arrays
from reptile_agent.meta.kept_contexts import KeptContexts
from reptile_agent.meta.learner import Params
from reptile_agent.meta.priorities import Priorities
from reptile_agent.replay import Replay
from reptile_agent.transition import Batch


@dataclass
class TrainState:
    """All that a run carries from one iteration to the next."""

    round: int = 0
    iteration: int = 0
    replay: Replay | None = None
    agent: Agent | None = None
    params: Params | None = None
    log_lr: Params | None = None
    """Logarithms of the inner step sizes, where they are learned."""
    outer: torch.optim.Optimizer | None = None
    priorities: Priorities | None = None
    """Of the replay, where it is prioritized."""
    dataset_sha256: str = ""
    """Of the recorded robots' file, where there is one."""
    tried: Batch | None = None
    """Segments of plans that the simulator tried, [tasks, n, ...]."""

    contexts: KeptContexts | None = None
    """Where training tasks' inner loops go on, if they are kept."""

    def arrays(self) -> Arrays:
        """By `<group>.<name>`, of what there is."""
        groups: dict[str, Arrays] = {}
        if self.replay is not None:
            groups["replay"] = self.replay.state()
        if self.tried is not None:
            groups["tried"] = self.tried
        if self.priorities is not None and self.priorities.error.size:
            groups["priorities"] = {"error": self.priorities.error}
        if self.contexts is not None:
            groups["contexts"] = {"value": self.contexts.value.numpy()}
        if self.agent is not None:
            groups["normaliser"] = self.agent.normaliser
        for group, tensors in (("params", self.params), ("log_lr", self.log_lr)):
            if tensors is not None:
                groups[group] = {name: v.detach().numpy() for name, v in tensors.items()}
        if self.outer is not None:
            groups["outer"] = {
                f"{i}.{name}": value.numpy()
                for i, moments in self.outer.state_dict()["state"].items()
                for name, value in moments.items()
                if value is not None
            }
        return {f"{group}.{n}": v for group, found in groups.items() for n, v in found.items()}


def restore_moments(outer: torch.optim.Optimizer, arrays: Arrays) -> None:
    """Put an optimizer's moments back, `<parameter's index>.<name>`."""
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in arrays.items():
        index, _, key = name.partition(".")
        moments.setdefault(int(index), {})[key] = torch.from_numpy(value.copy())
    outer.load_state_dict({**outer.state_dict(), "state": moments})

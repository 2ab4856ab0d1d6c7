"""Meta-train a policy by policy gradients in simulation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from reptile_agent.commands.train import Training
from reptile_agent.meta.on_policy_config import OnPolicyConfig
from reptile_agent.meta.on_policy_trainer import OnPolicyTrainer


@dataclass
class Command(Training):
    """Meta-train a policy by policy gradients in simulation: ProMP, MAML, RL2 and their baselines.

    Writes what `reptile-agent train` writes into --out; `reptile-agent evaluate` judges it. Such
    a policy adapts on whole fresh episodes: there is no bundle of it for a robot.
    """

    family: Annotated[str, tyro.conf.Positional] = "point_nav"
    """Task family; `reptile-agent tasks` lists them."""
    config: Annotated[OnPolicyConfig, tyro.conf.arg(name="")] = field(
        default_factory=OnPolicyConfig
    )
    """What to do."""

    def run(self) -> int:
        """Train."""
        return self.start(OnPolicyTrainer, self.config)

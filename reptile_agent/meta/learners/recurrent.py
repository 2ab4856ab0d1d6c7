"""Learner of RL2: a policy that finds its task out by remembering (Duan et al. 2016).

arXiv 1611.02779, section 2.2: a recurrent network sees the measurement, its last action, the
reward that this brought and whether the episode ended. Its memory lasts through all episodes of
one trial, so that what looks like acting is learning; nothing else adapts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from reptile_agent.meta.learner import Params, TensorBatch
from reptile_agent.meta.learners.policy_gradient import PolicyLearner
from reptile_agent.meta.networks import init_mlp, mlp


@dataclass(frozen=True)
class RecurrentLearner(PolicyLearner):
    """A gated recurrent unit with linear heads for policy and value; `config.hidden[0]` wide."""

    inputs: ClassVar[tuple[str, ...]] = (
        "obs",
        "reference",
        "last_action",
        "last_reward",
        "last_over",
    )

    @property
    def width(self) -> int:
        """Of the memory."""
        return self.config.hidden[0]

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters, uniform as those of torch.nn.GRU."""
        bound, gates = 1 / math.sqrt(self.width), 3 * self.width
        inputs = self.feature_dim + self.actions.outputs + 2
        shapes = {
            "gru.w_input": (gates, inputs),
            "gru.w_memory": (gates, self.width),
            "gru.b_input": (gates,),
            "gru.b_memory": (gates,),
        }
        params = {
            name: (2 * torch.rand(*shape, generator=generator) - 1) * bound
            for name, shape in shapes.items()
        }
        for part, outputs, scale in (("policy", self.actions.outputs, 0.01), ("value", 1, 0.1)):
            layers = init_mlp((self.width, outputs), 1, generator, last_scale=scale)
            params |= {f"{part}.{name}": value for name, value in layers.items()}
        return params | self._fresh_spread()

    def memory(self, lanes: int) -> Tensor:
        """Nothing yet, [lanes, width]."""
        return torch.zeros(lanes, self.width)

    def step(self, params: Params, memory: Tensor, inputs: TensorBatch) -> tuple[Tensor, Tensor]:
        """Heads and the new memory."""
        memory = torch.gru_cell(self._seen(inputs), memory, *_gru(params))
        return self._head(params, memory), memory

    def evaluate(self, params: Params, batch: TensorBatch) -> tuple[Tensor, Tensor]:
        """Heads and values along whole trials, whose memory begins empty."""
        seen = self._seen(batch)
        lanes = seen.reshape(-1, *seen.shape[-2:])
        outputs, _ = torch.gru(
            lanes,
            self.memory(len(lanes))[None],
            _gru(params),
            True,  # biases
            1,  # layer
            0.0,  # dropout
            False,  # training: of dropout
            False,  # bidirectional
            True,  # lanes before steps
        )
        head, value = self._head(params, outputs.flatten(0, 1)), _linear(params, "value.", outputs)
        shape = seen.shape[:-1]
        return head.reshape(*shape, head.shape[-1]), value.reshape(shape)

    def _seen(self, inputs: TensorBatch) -> Tensor:
        last = (
            self.actions.encoded(inputs["last_action"]),
            (inputs["last_reward"] / self._constants["reward_scale"])[..., None],
            inputs["last_over"][..., None],
        )
        return torch.cat([self.features(inputs), *last], dim=-1)

    def _head(self, params: Params, memory: Tensor) -> Tensor:
        """Heads [rows, head_dim] of memories [rows, width]."""
        return self._with_spread(params, _linear(params, "policy.", memory)[None])[0]


def _gru(params: Params) -> list[Tensor]:
    names = ("w_input", "w_memory", "b_input", "b_memory")
    return [params[f"gru.{name}"] for name in names]


def _linear(params: Params, part: str, x: Tensor) -> Tensor:
    layers = {"w0": params[f"{part}w0"], "b0": params[f"{part}b0"]}
    return mlp(layers, x.reshape(1, -1, x.shape[-1]))[0]

"""The reward of a control period, where what adapts learns from it: one run of `reward.onnx`."""

from __future__ import annotations

import numpy as np

from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.manifest import REWARD
from reptile_agent.onboard.session import Bound


class Reward:
    """The task's own reward, by what the robot measures.

    Args:
        bundle: verified, with a `reward.onnx`.
    """

    def __init__(self, bundle: Bundle) -> None:
        signals = bundle.manifest.robot.reward_signals.items()
        self._inputs = {name: np.zeros(len(each), np.float32) for name, each in signals}
        self._reward = np.zeros((), np.float32)
        self._graph = Bound(bundle.session(REWARD), self._inputs, {"reward": self._reward})

    def __call__(
        self, obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray, reference: np.ndarray
    ) -> float:
        """The reward, finite or not.

        Args:
            obs: measurement when the action was chosen, [obs_dim].
            action: what was sent, [act_dim].
            next_obs: measurement one period later, [obs_dim].
            reference: what was to be followed when the action was chosen, [ref_dim].
        """
        given = {"obs": obs, "action": action, "next_obs": next_obs, "reference": reference}
        for name, buffer in self._inputs.items():
            buffer[:] = given[name]
        self._graph.run()
        return float(self._reward)

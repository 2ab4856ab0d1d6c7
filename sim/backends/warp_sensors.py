"""Sensors of WarpSim's worlds, on their device."""

from __future__ import annotations

import numpy as np
import torch

from sim.sensors import MAX_DELAY, Sensors


class TensorSensors:
    """`sim.sensors.Sensors` on a device: the same noise and delay from other random numbers."""

    def __init__(self, noise: np.ndarray, delay: np.ndarray, device: torch.device) -> None:
        self._device, self._now = device, 0
        self.change(noise, delay)

    def change(self, noise: np.ndarray, delay: np.ndarray) -> None:
        """Other sensors, in mid-motion; see `Sensors.change`."""
        Sensors(noise, delay)  # refuses what no sensor has
        self._noise = torch.tensor(noise, dtype=torch.float32, device=self._device)
        self._delay = torch.tensor(delay, dtype=torch.int64, device=self._device)

    def reset(self, state: torch.Tensor, seed: int, lanes: torch.Tensor | None) -> torch.Tensor:
        """Fill lines with a first state; see `Sensors.reset`."""
        fresh = torch.Generator(self._device).manual_seed(seed)
        noise = torch.randn(state.shape, generator=fresh, device=self._device)
        first = state + self._noise * noise
        if lanes is None:
            self._random, self._seen = fresh, first
            self._line = state.repeat(MAX_DELAY + 1, 1, 1)
        else:
            self._line = torch.where(lanes[:, None], state, self._line)
            self._seen = torch.where(lanes[:, None], first, self._seen)
        return self._seen.clone()

    def read(self, state: torch.Tensor) -> torch.Tensor:
        """One period later: the state goes in, an older one comes out, with noise."""
        self._now = (self._now + 1) % len(self._line)
        self._line[self._now] = state
        lanes = torch.arange(len(self._delay), device=self._device)
        late = self._line[(self._now - self._delay) % len(self._line), lanes]
        noise = torch.randn(late.shape, generator=self._random, device=self._device)
        self._seen = late + self._noise * noise
        return self._seen.clone()

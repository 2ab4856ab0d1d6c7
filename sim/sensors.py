"""What lies between a robot's state and what it measures: noise, and delay."""

from __future__ import annotations

import numpy as np

MAX_DELAY = 32
"""Control periods that a measurement may be late."""


class Sensors:
    """One set of sensors per lane.

    Args:
        noise: standard deviation of every signal, [lanes, obs_dim].
        delay: control periods by which measurements are late, int [lanes].
    """

    def __init__(self, noise: np.ndarray, delay: np.ndarray) -> None:
        self.change(noise, delay)
        self._now = 0

    def change(self, noise: np.ndarray, delay: np.ndarray) -> None:
        """Other sensors, in mid-motion.

        Raises:
            ValueError: negative or not finite noise, or a delay out of 0..MAX_DELAY.
        """
        if not (np.isfinite(noise).all() and (noise >= 0).all()):
            raise ValueError("sensor noise must be finite and not negative")
        if (delay < 0).any() or (delay > MAX_DELAY).any():
            raise ValueError(f"sensor delay must be 0 to {MAX_DELAY} control periods, got {delay}")
        self._noise, self._delay = noise.astype(np.float32), delay.astype(int)

    def reset(self, state: np.ndarray, seed: int, lanes: np.ndarray | None = None) -> np.ndarray:
        """Fill lines with a first state; returns the measurement now, [lanes, obs_dim].

        Args:
            state: what perfect sensors would see.
            seed: of the noise.
            lanes: which start anew, bool [lanes]; None: all. The others' measurement stays.
        """
        fresh = np.random.default_rng([seed, 1])
        first = state + self._noise * fresh.standard_normal(state.shape, dtype=np.float32)
        if lanes is None or lanes.all():
            self._rng, self._seen = fresh, first
            self._line = np.broadcast_to(state, (MAX_DELAY + 1, *state.shape)).copy()
        else:
            self._line[:, lanes] = state[lanes]
            self._seen = np.where(lanes[:, None], first, self._seen)
        return self._seen.copy()

    def read(self, state: np.ndarray) -> np.ndarray:
        """One period later: the state goes in, an older one comes out, with noise."""
        self._now = (self._now + 1) % len(self._line)
        self._line[self._now] = state
        lanes = np.arange(self._delay.size)
        late = self._line[(self._now - self._delay) % len(self._line), lanes]
        noise = self._rng.standard_normal(late.shape, dtype=np.float32)
        self._seen = late + self._noise * noise
        return self._seen.copy()

"""The error of a training step that came out infinite or not a number."""

from __future__ import annotations

import numpy as np


class LossNotFinite(ArithmeticError):
    """A loss is no longer finite: the run cannot go on from here.

    Args:
        what: which loss and when, such as "fit/loss at step 312".
        batch: the offending minibatch by name, queries as `query.<name>`, and what a step began at:
            parameters as `params.<name>`, learned step sizes as `log_lr.<name>`, kept `contexts`.
    """

    def __init__(self, what: str, batch: dict[str, np.ndarray]) -> None:
        super().__init__(f"{what} is not finite")
        self.what, self.batch = what, batch

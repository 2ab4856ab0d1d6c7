"""higher 0.2 (arXiv 1910.01727): a patched module and a differentiable optimizer for each task.

Reptile takes its way of running without tracking higher gradients.
"""

from __future__ import annotations

import higher  # pyright: ignore[reportMissingImports]
import torch

from bench.meta_peers.workload import LR, Method, Work
from reptile_agent.meta.learner import Params


def run(method: Method, work: Work) -> Params:
    """Direction of a meta-batch."""
    second_order = method == "maml"
    network = work.network()
    optimizer = torch.optim.SGD(network.parameters(), lr=LR)
    total = {name: torch.zeros_like(value) for name, value in work.params.items()}
    for steps, query in work.one_by_one():
        with higher.innerloop_ctx(
            network,
            optimizer,
            copy_initial_weights=not second_order,
            track_higher_grads=second_order,
        ) as (live, stepper):
            for batch in steps:
                stepper.step(live(batch))
                now = dict(zip(work.params, live.fast_params))
                after = work.learner.after_step(now)
                if any(after[name] is not value for name, value in now.items()):
                    live.update_params(list(after.values()))
            if second_order:
                live(query).backward()
            else:
                for sum_, value in zip(total.values(), live.fast_params):
                    sum_ += value.detach()
    if second_order:
        return network.gradients(work.tasks)
    return {name: work.params[name] - value / work.tasks for name, value in total.items()}

"""reptile_agent.meta.compiled: the compiled inner loop is the inner loop."""

from __future__ import annotations

import logging

import pytest
import torch
from torch._inductor import config as inductor
from torch._inductor.utils import fresh_cache

from reptile_agent.meta.compiled import CompiledAdaptation
from reptile_agent.meta.inner_loop import InnerOptimizer, adapt_tasks, step_sizes

OPTIMIZERS = {
    "sgd": InnerOptimizer(kind="sgd"),
    "adam with a proximal term": InnerOptimizer(kind="adam", clip_norm=0.0, proximal=0.1),
}


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def compiled(one_thread) -> CompiledAdaptation:
    return CompiledAdaptation(tasks_per_thread=3)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_one_compilation_serves_all_tasks_and_all_k(
    compiled, quadratic, generator, minibatches, optimizer
):
    params = quadratic.init(generator)
    lr = step_sizes(params, 0.1, {"w": 0.5})
    compiled(quadratic, optimizer, params, minibatches(3, 1), lr)
    with torch.compiler.set_stance("fail_on_recompile"):
        for tasks, k in ((3, 4), (7, 2)):
            batches = minibatches(tasks, k)
            found = compiled(quadratic, optimizer, params, batches, lr)
            wanted = adapt_tasks(quadratic, optimizer, params, batches, lr)
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert compiled.seconds > 0
    assert not compiled.failure


@pytest.fixture
def uncompiled(monkeypatch):
    """The traced graph replayed as it is: what the tasks are cut into needs no compiler."""
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("tasks", [1, 3, 6, 7])
def test_parts_of_a_meta_batch_come_together(compiled, quadratic, generator, minibatches, tasks):
    params, batches = quadratic.init(generator), minibatches(tasks, 2)
    lr = step_sizes(params, 0.1)
    for optimizer in OPTIMIZERS.values():
        found = compiled(quadratic, optimizer, params, batches, lr)
        torch.testing.assert_close(found, adapt_tasks(quadratic, optimizer, params, batches, lr))


@pytest.mark.usefixtures("uncompiled")
def test_every_task_may_have_a_start_of_its_own(compiled, quadratic, generator, minibatches):
    starts = [quadratic.init(generator) for _ in range(4)]
    params = {name: torch.stack([start[name] for start in starts]) for name in starts[0]}
    batches, lr = minibatches(4, 3), step_sizes(starts[0], 0.1)
    optimizer = OPTIMIZERS["sgd"]
    found = compiled(quadratic, optimizer, params, batches, lr, stacked=True)
    wanted = adapt_tasks(quadratic, optimizer, params, batches, lr, stacked=True)
    torch.testing.assert_close(found, wanted)


@pytest.mark.usefixtures("uncompiled")
def test_a_start_that_wants_gradients_gets_none(compiled, quadratic, generator, minibatches):
    params = {n: v.requires_grad_() for n, v in quadratic.init(generator).items()}
    lr = step_sizes(params, 0.1)
    adapted, info = compiled(quadratic, OPTIMIZERS["sgd"], params, minibatches(2, 2), lr)
    assert not any(v.requires_grad for v in (*adapted.values(), *info.values()))


@pytest.mark.usefixtures("uncompiled")
def test_learners_optimizers_and_shapes_have_graphs_of_their_own(
    compiled, quadratic, generator, minibatches
):
    params, lr = quadratic.init(generator), step_sizes(quadratic.init(generator), 0.1)

    class Doubled(type(quadratic)):
        def loss(self, params, batch):
            return 2 * super().loss(params, batch)

    for learner in (quadratic, Doubled()):
        for optimizer in OPTIMIZERS.values():
            for batch in (2, 6):
                batches = {name: value[:, :, :batch] for name, value in minibatches(3, 2).items()}
                found = compiled(learner, optimizer, params, batches, lr)
                wanted = adapt_tasks(learner, optimizer, params, batches, lr)
                torch.testing.assert_close(found, wanted)


def test_no_minibatch_is_refused(compiled, quadratic, generator, minibatches):
    params = quadratic.init(generator)
    empty = {name: value[:, :0] for name, value in minibatches(2, 1).items()}
    with pytest.raises(ValueError, match="k must be at least 1"):
        compiled(quadratic, OPTIMIZERS["sgd"], params, empty, step_sizes(params, 0.1))


def test_without_a_compiler_the_plain_loop_does_the_work(
    compiled, quadratic, generator, minibatches, monkeypatch, caplog
):
    monkeypatch.setattr(inductor.cpp, "cxx", ("/no/such/compiler",))
    params, batches = quadratic.init(generator), minibatches(4, 2)
    lr, optimizer = step_sizes(params, 0.1), OPTIMIZERS["sgd"]
    with fresh_cache(), caplog.at_level(logging.WARNING):
        found = [compiled(quadratic, optimizer, params, batches, lr) for _ in range(2)]
    for one in found:
        torch.testing.assert_close(one, adapt_tasks(quadratic, optimizer, params, batches, lr))
    ours = [r.message for r in caplog.records if r.name == "reptile_agent.meta.compiled"]
    assert len(ours) == 1  # said once
    assert "uncompiled" in ours[0]
    assert compiled.failure
    assert compiled.failure in ours[0]

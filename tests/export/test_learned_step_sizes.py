"""Step sizes that a run has learned: the bundle carries them, and the robot takes those steps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from reptile_agent.export import learner_graphs
from reptile_agent.export.write_bundle import write_bundle
from reptile_agent.meta.inner_loop import inner_loop, step_sizes
from reptile_agent.meta.trainer import Trainer
from reptile_agent.onboard import parameters
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.inner_steps import InnerSteps
from reptile_agent.onboard.manifest import GRAPHS


@pytest.fixture(scope="module")
def trainer(short_arm, tiny_run) -> Trainer:
    trained = Trainer(short_arm, dataclasses.replace(tiny_run, learn_lr=0.2))
    for _ in trained.run():
        pass
    return trained


@pytest.fixture(scope="module")
def learned(trainer, bundle_path, tmp_path_factory) -> Bundle:
    path: Path = tmp_path_factory.mktemp("learned") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        # Parameters and step sizes are inputs of the graphs: tracing again would make the same.
        graphs = {name: (bundle_path / name).read_bytes() for name in GRAPHS}
        patch.setattr(learner_graphs, "build", lambda *_: dict(graphs))
        write_bundle(trainer, path)
    return Bundle.load(path)


def test_the_manifest_names_the_learned_step_sizes(trainer, learned, bundle):
    manifest = learned.manifest
    assert manifest.normaliser == bundle.manifest.normaliser, "the graphs fit"
    assert manifest.lr_scale == pytest.approx(trainer.lr_scale, rel=1e-6)
    for name, configured in bundle.manifest.lr_scale.items():
        assert abs(manifest.lr_scale[name] / configured - 1) > 0.05, name


@pytest.mark.parametrize("k", [1, 6])
def test_the_robot_takes_the_steps_of_those_sizes(trainer, learned, k):
    config = learned.manifest.adaptation
    rows = config.batch + config.rehearsal
    at = np.random.default_rng(0).integers(len(learned.rehearsal["weight"]), size=(k, rows))
    batches = {name: value[at] for name, value in learned.rehearsal.items()}
    found, *_ = InnerSteps(learned, config)(learned.start, batches, config.inner_lr, None)

    def in_torch(lr: dict[str, torch.Tensor]) -> np.ndarray:
        tensors = {name: torch.from_numpy(value) for name, value in batches.items()}
        learner, inner = trainer.agent.learner, trainer.config.inner
        adapted, *_ = inner_loop(learner, inner, trainer.params, {}, tensors, lr)
        arrays = {name: value.numpy() for name, value in adapted.items()}
        return parameters.flatten(arrays, learned.manifest.parameters)

    wanted = in_torch(trainer.online().lr)
    moved = np.linalg.norm(wanted - learned.start)
    assert np.linalg.norm(found - wanted) < 1e-3 * moved
    configured = in_torch(step_sizes(trainer.params, config.inner_lr, trainer.config.lr_scale))
    assert np.linalg.norm(found - configured) > 0.05 * moved

"""What several folders of tests share: robots, transitions, and one tiny exported bundle."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from reptile_agent.spec import RobotSpec, Signal
from reptile_agent.transition import Transition

hypothesis.settings.register_profile("suite", deadline=None, max_examples=60, derandomize=True)
hypothesis.settings.load_profile("suite")

FAULT = {"gain_shoulder_lift": 0.3, "gain_elbow_flex": 0.4, "payload_kg": 0.2}


@pytest.fixture(scope="session", autouse=True)
def _one_thread_a_worker() -> None:
    """Workers side by side are faster so, and sums come out in the same order everywhere."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def robot() -> RobotSpec:
    """A position servo `lift` with a rate limit and a motor `wheel` that turns without end."""
    return RobotSpec(
        name="toy",
        control_period_s=0.1,
        observations=(
            Signal(joint="lift", quantity="position", unit="rad", low=-2.0, high=2.0),
            Signal(
                joint="wheel",
                quantity="position",
                unit="rad",
                low=-100.0,
                high=100.0,
                periodic=True,
            ),
        ),
        actions=(
            Signal(joint="lift", quantity="position", unit="rad", low=-1.0, high=1.0, max_rate=2.0),
            Signal(joint="wheel", quantity="effort", unit="N m", low=-3.0, high=3.0),
        ),
        references=(Signal(joint="lift", quantity="position", unit="rad", low=-2.0, high=2.0),),
    )


@pytest.fixture(scope="session")
def numbered() -> Callable[..., Transition]:
    """A transition whose every value tells when and in which lane it happened."""

    def make(t: int, lanes: int = 1, first: bool | np.ndarray = False) -> Transition:
        lane = 1000.0 * np.arange(lanes, dtype=np.float32)
        return Transition(
            obs=(lane + t)[:, None].astype(np.float32),
            action=(lane + t + 0.25)[:, None].astype(np.float32),
            next_obs=(lane + t + 1)[:, None].astype(np.float32),
            reward=(lane + t).astype(np.float32),
            first=np.broadcast_to(first, lanes),
        )

    return make


@pytest.fixture(scope="session")
def short_arm():
    """The arm family, with a planner that looks so little ahead that it exports fast."""
    from sim.families.arm import Arm

    class ShortArm(Arm):
        plan_horizon = 3

    return ShortArm()


@pytest.fixture(scope="session")
def shaken() -> Callable[..., list[Transition]]:
    """What a faulty arm of some family did in so many periods of shaky commands."""

    def shake(arm, periods: int) -> list[Transition]:
        sim, rng = arm.make_sim([FAULT]), np.random.default_rng(0)
        obs, found, noise = sim.reset(seed=1), [], np.zeros((1, 5))
        for t in range(periods):
            noise = 0.8 * noise + 0.06 * rng.standard_normal((1, 5))
            reference = sim.reference(arm.plan_horizon)
            action = (reference[:, 0] + noise).astype(np.float32)
            after, reward, *_ = sim.step(action)
            first = np.array([t == 0])
            found.append(Transition(obs, action, after, reward, first, reference=reference))
            obs = after
        return found

    return shake


@pytest.fixture(scope="session")
def tiny_run():
    """Settings of the run that the tiny bundles come from."""
    from reptile_agent.adaptation import AdaptationConfig
    from reptile_agent.meta.learners.dynamics import DynamicsConfig
    from reptile_agent.meta.train_config import TrainConfig

    return TrainConfig(
        tasks=8,
        rounds=1,
        round_steps=60,
        fit_iterations=300,
        fit_batch=128,
        fit_lr=3e-3,
        iterations=5,
        meta_batch=4,
        train_inner_steps=2,
        model=DynamicsConfig(hidden=(16,), members=2, segment=2, context=4, context_lr=1.0),
        adaptation=AdaptationConfig(window=60, holdout=10, inner_lr=0.02, fast_tau=None),
        lr_scale={"b": 2.0},
        samples=8,
    )


@pytest.fixture(scope="session")
def _bundles(short_arm, tiny_run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the bundles `sgd` and `adam`."""
    return _once(tmp_path_factory, "bundles", lambda at: _export(short_arm, tiny_run, at))


def _once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that is made once for all workers of a run."""
    base = factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base
    folder = shared / name
    with open(shared / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            make(shared / f"{name}.partial")
            (shared / f"{name}.partial").rename(folder)
    return folder


def _export(family, config, folder: Path) -> None:
    """Train a tiny start and write it twice: for an inner loop by SGD, and for one by Adam."""
    import dataclasses

    import onnx

    from reptile_agent.export import learner_graphs
    from reptile_agent.export.write_bundle import write_bundle
    from reptile_agent.meta.inner_loop import InnerOptimizer
    from reptile_agent.meta.trainer import Trainer

    trainer = Trainer(family, config)
    for _ in trainer.run():
        pass
    write_bundle(trainer, folder / "sgd")
    trainer.config = dataclasses.replace(config, inner=InnerOptimizer(kind="adam", clip_norm=0.0))
    with pytest.MonkeyPatch.context() as patch:
        # Only the inner loop differs: tracing the planner again would take seconds.
        act = onnx.load(folder / "sgd" / "act.onnx")
        patch.setattr(learner_graphs, "act_graph", lambda *_: act)
        write_bundle(trainer, folder / "adam")


@pytest.fixture(scope="session")
def bundle_path(_bundles: Path) -> Path:
    """A tiny bundle of the arm. Shared: copy it before you change it."""
    return _bundles / "sgd"


@pytest.fixture(scope="session")
def adam_bundle_path(_bundles: Path) -> Path:
    """The same start with an inner loop by Adam. Shared: copy it before you change it."""
    return _bundles / "adam"


@pytest.fixture(scope="session")
def policy_bundle_path(short_arm, tiny_run, tmp_path_factory) -> Callable[[str], Path]:
    """Path of a tiny bundle of the arm whose learner, as named, acts by a policy. Shared."""

    def path(learner: str) -> Path:
        return _once(
            tmp_path_factory, learner, lambda at: _export_policy(short_arm, tiny_run, learner, at)
        )

    return path


def _export_policy(family, config, learner: str, folder: Path) -> None:
    import dataclasses

    from reptile_agent.export.write_bundle import write_bundle
    from reptile_agent.meta.learners.model_policy import ModelPolicyConfig
    from reptile_agent.meta.learners.temporal_difference import ActorCriticConfig
    from reptile_agent.meta.trainer import Trainer

    config = dataclasses.replace(
        config,
        learner=learner,
        lr_scale={},
        train_inner_steps=3,
        actor_critic=ActorCriticConfig(hidden=(16,), n_step=2),
        model_policy=ModelPolicyConfig(
            hidden=(16,), segment=2, context=0, policy_hidden=(8,), horizon=2, model_steps=2
        ),
    )
    trainer = Trainer(family, config)
    for _ in trainer.run():
        pass
    write_bundle(trainer, folder)


@pytest.fixture
def bundle_copy(bundle_path: Path, tmp_path: Path) -> Path:
    """A bundle of the test's own, to damage."""
    return Path(shutil.copytree(bundle_path, tmp_path / "bundle"))


@pytest.fixture
def bundle(bundle_path: Path):
    """The tiny bundle, loaded."""
    from reptile_agent.onboard.bundle import Bundle

    return Bundle.load(bundle_path)


@pytest.fixture
def edit_manifest() -> Callable[..., None]:
    """Change a bundle's manifest by a function of its JSON document."""
    from bench.fault_bundles import edit_manifest

    return edit_manifest


@pytest.fixture
def replace_file() -> Callable[[Path, str, bytes], None]:
    """Put another file into a bundle, and its hash and size into the manifest."""
    from bench.fault_bundles import replace_file

    return replace_file


@pytest.fixture(scope="session")
def arm_bundle_path() -> Path:
    """The bundle that the ROS package ships."""
    return Path(__file__).parent.parent / "ros2_ws/src/reptile_agent/bundle/arm"


@pytest.fixture(scope="session")
def arm_bundle(arm_bundle_path: Path):
    """The shipped bundle, loaded."""
    from reptile_agent.onboard.bundle import Bundle

    return Bundle.load(arm_bundle_path)

"""Bundles of policies: their graphs do what torch does, and what cannot run on board is refused."""

from __future__ import annotations

import dataclasses

import onnx
import pytest
from onnx import numpy_helper

from reptile_agent.export.parity import verify
from reptile_agent.export.write_bundle import write_bundle
from reptile_agent.meta.inner_loop import InnerOptimizer
from reptile_agent.meta.train_config import TrainConfig
from reptile_agent.meta.trainer import Trainer
from reptile_agent.onboard.bundle import Bundle
from sim.families.cartpole_discrete import CartpoleDiscrete

LEARNERS = ("actor_critic", "model_policy")
ALWAYS = ["adapt.onnx against torch, k=1", "adapt.onnx against torch, k=5"]


def failed(rows) -> list[str]:
    return [row.check for row in rows if not row.passed]


@pytest.fixture(params=LEARNERS)
def policy_bundle(request, policy_bundle_path) -> Bundle:
    return Bundle.load(policy_bundle_path(request.param))


def test_a_policys_graphs_do_what_torch_does(policy_bundle, short_arm):
    rows = verify(policy_bundle, short_arm.reward, (1, 5), short_arm.reward)
    assert failed(rows) == []
    checks = [row.check for row in rows]
    rewarded = policy_bundle.manifest.learner == "actor_critic"
    assert checks == [
        "act.onnx against torch",
        "value.onnx against torch",
        *["reward.onnx against torch"] * rewarded,
        *ALWAYS,
        "evaluate.onnx against torch",
    ]


def test_without_the_family_what_does_not_need_it_is_compared(policy_bundle):
    checks = [row.check for row in verify(policy_bundle, None, (1, 5))]
    critic = policy_bundle.manifest.learner == "actor_critic"
    judged = ["value.onnx against torch", *ALWAYS] * critic
    assert checks == ["act.onnx against torch", *judged, "evaluate.onnx against torch"]


def test_a_graph_for_another_objective_fails(policy_bundle_path):
    def other(obs, action, after, reference):
        return -after[..., :5].square().mean(-1)

    model_policy = Bundle.load(policy_bundle_path("model_policy"))
    # In the first steps the policy does not follow the model: here the weight is drawn.
    assert failed(verify(model_policy, other, (1,))) == ["value.onnx against torch", ALWAYS[0]]
    actor_critic = Bundle.load(policy_bundle_path("actor_critic"))
    assert failed(verify(actor_critic, other, (1,), other)) == ["reward.onnx against torch"]


def test_a_manifest_of_other_losses_does_not_fit_its_graphs(
    policy_bundle_path, short_arm, tmp_path, edit_manifest
):
    import shutil

    copy = tmp_path / "bundle"
    shutil.copytree(policy_bundle_path("actor_critic"), copy)
    edit_manifest(copy, lambda d: d["hyperparameters"]["model"].update(gamma=0.5))
    assert failed(verify(Bundle.load(copy), short_arm.reward, (1,))) == [
        ALWAYS[0],
        "evaluate.onnx against torch",
    ]


def test_a_changed_policy_graph_fails(policy_bundle_path, short_arm, tmp_path, replace_file):
    import shutil

    copy = tmp_path / "bundle"
    shutil.copytree(policy_bundle_path("model_policy"), copy)
    model = onnx.load(copy / "act.onnx")
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == "float32" and array.size > 1:
            tensor.CopyFrom(numpy_helper.from_array(1.1 * array, tensor.name))
    replace_file(copy, "act.onnx", model.SerializeToString())
    assert failed(verify(Bundle.load(copy), short_arm.reward, (1,))) == ["act.onnx against torch"]


def gathered(family, **how) -> Trainer:
    config = TrainConfig(tasks=2, rounds=1, round_steps=20, learner="actor_critic", **how)
    trainer = Trainer(family, dataclasses.replace(config, fit_iterations=0, iterations=0))
    for _ in trainer.run():
        pass
    return trainer


def test_a_choice_is_not_exported(tmp_path):
    trainer = gathered(CartpoleDiscrete())
    with pytest.raises(ValueError, match=r"is a choice, .* a bundle needs continuous actions"):
        write_bundle(trainer, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_reward_that_the_robot_cannot_know_is_not_exported(short_arm, tmp_path):
    trainer = gathered(short_arm)

    class Richer(type(short_arm)):
        def reward(self, obs, action, next_obs, reference):
            return super().reward(obs, action, next_obs, reference) + 10 * obs[..., 0]

    trainer.family = Richer()
    with pytest.raises(ValueError, match="rewards that its method `reward` does not give"):
        write_bundle(trainer, tmp_path / "bundle")


def test_a_proximal_inner_loop_is_not_exported(short_arm, tmp_path):
    trainer = gathered(short_arm, inner=InnerOptimizer(proximal=0.1))
    with pytest.raises(ValueError, match="proximal term cannot be exported yet"):
        write_bundle(trainer, tmp_path / "bundle")

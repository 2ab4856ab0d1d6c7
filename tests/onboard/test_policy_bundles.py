"""Bundles whose learner acts by a policy, on the robot's classes: they act, remember and adapt."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil

import numpy as np
import pytest
import torch

from reptile_agent.export.remade import agent_of
from reptile_agent.meta.inner_loop import InnerOptimizer, inner_loop, step_sizes
from reptile_agent.onboard import parameters
from reptile_agent.onboard.adapter import Adapter
from reptile_agent.onboard.bundle import Bundle, BundleError
from reptile_agent.onboard.controller import Controller
from reptile_agent.onboard.policy import Policy
from reptile_agent.onboard.spool import SpoolError
from reptile_agent.probation import ProbationConfig
from reptile_agent.transition import Transition

FAULT = {"gain_shoulder_lift": 0.3, "gain_elbow_flex": 0.4, "payload_kg": 0.2}
PERIODS = 90


@pytest.fixture(params=["actor_critic", "model_policy"])
def bundle_of_policy(request, policy_bundle_path) -> Bundle:
    return Bundle.load(policy_bundle_path(request.param))


def driven(bundle: Bundle, family, periods: int) -> tuple[list[Transition], list[np.ndarray]]:
    """What a faulty arm did under the controller, and what its simulator saw of each period."""
    sim, controller = family.make_sim([FAULT]), Controller(bundle)
    sim.reset(seed=3)
    transitions, seen = [], []
    for t in range(periods):
        ahead = sim.reference(2)[0]
        now_s, obs = 0.04 * t, sim.obs[0].copy()
        tick = controller.tick(now_s, obs, now_s, ahead[:1])
        assert controller.mode == "active", controller.reason
        if tick.transition is not None:
            transitions.append(tick.transition)
        next_obs, reward, *_ = sim.step(tick.command[None])
        seen.append((obs, ahead, tick.command.copy(), next_obs[0].copy(), reward[0]))
    return transitions, seen


def filled(bundle: Bundle, family, **how) -> Adapter:
    adapter = Adapter(bundle, **how)
    for transition in driven(bundle, family, PERIODS)[0]:
        adapter.remember(transition)
    return adapter


def test_it_acts_as_the_policy_in_torch_does(bundle_of_policy):
    bundle, rng = bundle_of_policy, np.random.default_rng(0)
    learner, _ = agent_of(bundle, None)
    policy, flat = Policy(bundle), bundle.start.copy()
    for _ in range(2):
        tensors = parameters.views(flat, bundle.manifest.parameters)
        params = {name: torch.from_numpy(value.copy()) for name, value in tensors.items()}
        policy.set_parameters(flat)
        for _ in range(3):
            obs, aim = (rng.normal(0, 0.3, (1, n)).astype(np.float32) for n in (10, 5))
            wanted = learner.policy_action(params, *map(torch.from_numpy, (obs, aim)))[0]
            np.testing.assert_allclose(policy.act(obs[0], aim), wanted, atol=2e-5)
            np.testing.assert_array_equal(policy.expected, obs[0])
        flat = flat + rng.normal(0, 0.1, flat.size).astype(np.float32)
    assert policy.horizon == 1


def test_what_it_remembers_is_what_simulation_would(bundle_of_policy, short_arm):
    bundle, rewarded = bundle_of_policy, bundle_of_policy.manifest.learner == "actor_critic"
    transitions, seen = driven(bundle, short_arm, 12)
    assert len(transitions) == 11
    for found, (obs, ahead, command, after, reward) in zip(transitions, seen):
        np.testing.assert_array_equal(found.obs[0], obs)
        np.testing.assert_array_equal(found.action[0], command)
        np.testing.assert_array_equal(found.next_obs[0], after)
        np.testing.assert_allclose(found.reference[0], ahead, atol=1e-6)
        error = np.abs(after[:5] - ahead[0]).mean()
        assert found.reward[0] == pytest.approx(reward if rewarded else -error, rel=1e-4)
    adapter = Adapter(bundle)
    for transition in transitions:
        adapter.remember(transition)
    newest = adapter.replay.latest(3, 2)
    np.testing.assert_allclose(newest["obs"][0], np.r_[seen[8][0], seen[8][1][0]], atol=1e-6)
    np.testing.assert_allclose(newest["next_obs"][0, 0, 10:], seen[8][1][1], atol=1e-6)
    assert ("reward" in newest) == rewarded


@pytest.mark.parametrize("steps", [1, 5])
def test_its_steps_are_those_of_torch_on_the_same_minibatches(bundle_of_policy, short_arm, steps):
    bundle, manifest, seen = bundle_of_policy, bundle_of_policy.manifest, {}
    adapter = filled(bundle, short_arm)
    inner = adapter._steps

    def spying(origin, batches, *rest):
        seen.update(batches)
        return inner(origin, batches, *rest)

    adapter._steps = spying
    found = adapter.adapt(steps)
    config = manifest.adaptation
    for name, shape in manifest.experience.minibatch(manifest.robot, manifest.segment).items():
        assert seen[name].shape == (steps, config.batch + config.rehearsal, *shape)
    learner, _ = agent_of(bundle, short_arm.reward)
    tensors = parameters.views(bundle.start.copy(), manifest.parameters)
    start = {name: torch.from_numpy(value) for name, value in tensors.items()}
    optimizer = InnerOptimizer(**manifest.hyperparameters["inner"])
    lr = step_sizes(start, config.inner_lr)
    batches = {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in seen.items()}
    wanted, _, info = inner_loop(learner, optimizer, start, optimizer.init(start), batches, lr)
    flat = np.concatenate([wanted[name].numpy().ravel() for name in start])
    moved = np.linalg.norm(flat - bundle.start)
    assert moved > 0
    assert np.linalg.norm(found.parameters - flat) < 1e-3 * moved
    np.testing.assert_allclose(found.loss, info["loss"], rtol=1e-3)


def test_the_policy_moves_in_the_declared_steps_alone(policy_bundle_path, short_arm):
    adapter = filled(Bundle.load(policy_bundle_path("model_policy")), short_arm)
    entries = adapter.bundle.manifest.parameters
    before = parameters.views(adapter.bundle.start, entries)
    for steps, moves in ((2, False), (3, True)):  # model_steps is 2
        after = parameters.views(adapter.adapt(steps, start="start").parameters, entries)
        moved = {n.split(".")[0] for n in after if not np.array_equal(after[n], before[n])}
        assert moved == ({"model", "policy"} if moves else {"model"})


def test_the_gate_judges_and_what_it_accepts_drives(bundle_of_policy, short_arm):
    bundle = bundle_of_policy
    adapter = filled(bundle, short_arm)
    found = adapter.adapt()
    figures = found.evidence
    assert np.isfinite([figures.live_before, figures.live_after, figures.rehearsal_after]).all()
    assert figures.plan_gain is not None
    assert np.isfinite(figures.plan_gain)
    if bundle.manifest.learner == "model_policy":
        assert found.verdict.accepted, found.verdict.reason
        assert figures.live_after < 0.9 * figures.live_before
    controller = Controller(bundle)
    controller.offer(1, bundle.manifest.start_sha256, found.parameters)
    rest = np.zeros(10, np.float32)
    for t in range(60):
        controller.tick(0.04 * t, rest, 0.04 * t, np.zeros((1, 5), np.float32))
    assert controller.version == 1
    np.testing.assert_array_equal(controller.policy.parameters, found.parameters)


def test_a_policy_turned_around_is_refused_though_all_that_judges_is_as_good(
    bundle_of_policy, short_arm
):
    bundle = bundle_of_policy
    adapter = filled(bundle, short_arm)
    names = [p.name for p in bundle.manifest.acting]
    last = max(n for n in names if n.startswith("policy.w"))
    turned = bundle.start.copy()
    view = parameters.views(turned, bundle.manifest.parameters)
    for name in (last, last.replace(".w", ".b")):
        view[name] *= -3.0
        view[name] += 2.0
    errors = np.ones(3)
    gate = adapter._judging._plans
    gain = gate.gain(bundle.start, turned, errors, gate.seen)
    assert gain < 0
    assert gate.gain(turned, bundle.start, errors, gate.seen) == pytest.approx(-gain, rel=0.5)
    assert gate.gain(bundle.start, bundle.start, errors, gate.seen) == 0


@pytest.mark.parametrize("graph", ["value.onnx", "reward.onnx"])
def test_a_bundle_without_what_judges_its_policy_is_refused(
    policy_bundle_path, tmp_path, edit_manifest, graph
):
    copy = tmp_path / "bundle"
    shutil.copytree(policy_bundle_path("actor_critic"), copy)
    edit_manifest(copy, lambda d: d["files"].pop(graph))
    with pytest.raises(BundleError, match="files must be"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {"reference": None}, "does not say what was to be followed"),
        (lambda t: {"reference": t.reference[:, :1]}, r"of shape \(2, 5\), control periods"),
        (lambda t: {"reference": t.reference[:, :, :4]}, r"of shape \(2, 5\), control periods"),
        (lambda t: {"reference": t.reference * np.nan}, "the reference should be finite"),
    ],
)
def test_a_transition_without_its_references_is_not_remembered(
    policy_bundle_path, short_arm, change, words
):
    bundle = Bundle.load(policy_bundle_path("actor_critic"))
    good = driven(bundle, short_arm, 3)[0][0]
    adapter = Adapter(bundle)
    adapter.remember(good)
    with pytest.raises(ValueError, match=words):
        adapter.remember(dataclasses.replace(good, **change(good)))
    assert len(adapter.replay) == 1


def test_a_reward_that_is_not_finite_latches_the_fallback(policy_bundle_path):
    controller = Controller(Bundle.load(policy_bundle_path("actor_critic")))
    rest, far = np.zeros(10, np.float32), np.full((1, 5), 1e30, np.float32)
    controller.tick(0.0, rest, 0.0, far)
    assert controller.tick(0.04, rest, 0.04, far).transition is None
    assert "the reward is not finite: it is -inf" in controller.envelope.fault


def test_a_policy_that_earns_less_is_rolled_back_whatever_its_tracking_error(policy_bundle_path):
    bundle = Bundle.load(policy_bundle_path("actor_critic"))
    blind = ProbationConfig(margin=1e6, anchor_margin=1e6, floor=1e6)  # to tracking errors
    controller = Controller(bundle, probation=blind)
    obs, aim = np.zeros(10, np.float32), np.zeros((1, 5), np.float32)
    ticks = itertools.count()

    def tick():
        now_s = 0.04 * next(ticks)
        return controller.tick(now_s, obs, now_s, aim)

    for _ in range(blind.baseline_ticks + 2):
        tick()
    controller.offer(1, bundle.manifest.start_sha256, bundle.start + np.float32(1e-4))
    tick()
    assert controller.version == 1
    obs[:5] = 0.3  # the arm is no longer where it should be
    for _ in range(blind.patience):
        tick()
    assert (controller.version, controller.rollbacks) == (0, 1)
    assert controller.probation.reason.startswith("the reward is -")


def test_references_and_rewards_survive_a_restart(bundle_of_policy, short_arm, tmp_path):
    adapter = filled(bundle_of_policy, short_arm, spool=tmp_path)
    before = adapter.replay.latest(20, 2)
    adapter.close()
    again = Adapter(bundle_of_policy, spool=tmp_path)
    assert again.replay.restored == len(adapter.replay)
    for name, value in again.replay.latest(20, 2).items():
        np.testing.assert_array_equal(value, before[name])
    again.close()


def test_a_learner_of_other_noise_goes_on_from_what_was_recorded(
    policy_bundle_path, short_arm, tmp_path, edit_manifest
):
    path, copy = policy_bundle_path("actor_critic"), tmp_path / "bundle"
    filled(Bundle.load(path), short_arm, spool=tmp_path / "spool").close()
    shutil.copytree(path, copy)
    edit_manifest(copy, lambda d: d["experience"]["inputs"][0].update(std=0.1))
    again = Adapter(Bundle.load(copy), spool=tmp_path / "spool")
    assert again.replay.restored > 50
    again.close()


@pytest.mark.parametrize("other", ["model_policy", "plain"])
def test_what_another_learner_recorded_is_refused(
    policy_bundle_path, bundle, short_arm, tmp_path, other
):
    mine = Bundle.load(policy_bundle_path("actor_critic"))
    filled(mine, short_arm, spool=tmp_path).close()
    theirs = bundle if other == "plain" else Bundle.load(policy_bundle_path(other))
    with pytest.raises(SpoolError, match="or another learner"):
        Adapter(theirs, spool=tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["plan"].update(samples=8), "learner actor_critic acts by a policy"),
        (lambda d: d["plan"].update(horizon=2), "plan.horizon must be 1"),
        (lambda d: d.update(learner="dynamics"), "learner dynamics plans"),
        (lambda d: d.pop("experience"), "files must be"),
        (lambda d: d["experience"].update(sees_reference=False), "rehearsal.safetensors"),
        (lambda d: d["experience"]["inputs"].pop(), "adapt.onnx"),
        (lambda d: d["experience"]["inputs"][0].update(size=7), "adapt.onnx"),
        (lambda d: d["experience"]["inputs"][0].update(std=-1), "experience.inputs.0"),
        (lambda d: d["experience"]["fields"].remove("terminated"), "rehearsal.safetensors"),
        (lambda d: d["experience"]["fields"].append("age"), "experience.fields"),
    ],
)
def test_a_manifest_that_says_other_things_of_experience_is_refused(
    policy_bundle_path, tmp_path, edit_manifest, change, words
):
    copy = tmp_path / "bundle"
    shutil.copytree(policy_bundle_path("actor_critic"), copy)
    edit_manifest(copy, change)
    with pytest.raises(BundleError, match=words):
        Bundle.load(copy)


def test_a_bundle_of_before_experience_was_declared_is_one_of_plain_transitions(arm_bundle):
    document = json.loads((arm_bundle.path / "manifest.json").read_text())
    assert "experience" not in document
    manifest = arm_bundle.manifest
    assert manifest.experience.fields == ("obs", "action", "next_obs")
    assert manifest.plans
    assert manifest.acting == manifest.parameters

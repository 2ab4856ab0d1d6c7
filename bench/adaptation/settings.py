"""What the adaptation benchmark runs: families, budgets and seeds. Tuned on `validation` alone."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from reptile_agent.adaptation import AdaptationConfig
from reptile_agent.meta.learners.dynamics import DynamicsConfig
from reptile_agent.meta.on_policy import Sampling
from reptile_agent.meta.on_policy_config import OnPolicyConfig
from reptile_agent.meta.train_config import TrainConfig

SPLITS = ("in_range", "extrapolated", "held_out")
"""What is judged, once settings are frozen."""
TUNING_SEED = 1000
"""Of meta-training, where it must be none of the benchmark's."""
STEPS = (0, 1, 2, 5, 10, 20)
"""Inner steps (k) of the curves."""


@dataclass(frozen=True)
class Tuned:
    """What is tuned for every method alike."""

    inner_lr: float
    """Inner step size (alpha)."""
    epsilon: float
    """Outer step size."""


@dataclass(frozen=True)
class Setting:
    """How one family is trained and judged; the same for all methods but in `tuned` and `also`."""

    train: TrainConfig
    """Meta-training; the algorithm is replaced."""
    seeds: int = 5
    """Meta-training seeds."""
    curve_seeds: int = 3
    """Seeds that also run the curves against k and data, the faults, and without gate."""
    ungated_seeds: int = 0
    """Seeds that also run without gate, where they are to be more than those with curves."""
    tasks: int = 10
    """Tasks of each split."""
    first_task: int = 0
    """Index of the first of them in the split."""
    periods: int = 165
    """Control periods of a run."""
    judged_from: int = 100
    """First period that counts towards the return: adaptation needs data first."""
    windows: tuple[int, ...] = (25, 50)
    """Shorter windows of experience for the curve against seconds of data, in periods."""
    fault_at: int = 125
    """Period of the fault, in runs that start nominal and go on for `periods` after it."""
    methods: tuple[str, ...] = ("joint", "reptile", "fomaml", "maml")
    """What is trained, beside scratch and the oracle."""
    other_seeds: int = 5
    """Seeds that also train what is neither joint nor Reptile: the verdict is about these two."""
    scratch: bool = True
    """Whether those seeds judge fresh parameters too."""
    tuned: dict[str, Tuned] = field(default_factory=dict)
    """Method -> step sizes, where they are not the ones of `train`; from `tune`."""
    also: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Method -> what of the meta-phase differs for it; the experience and the fit are shared."""
    oracle: Literal["trained", "simulator"] = "trained"
    """Whether the oracle is the learner, trained on the very task, or the simulator of that task in
    the model's place: where robots that stand teach nothing, the former knows no better."""
    oracle_seeds: int = 2
    """Seeds that also have an oracle, which only anchors the score."""
    oracle_steps: int = 400
    """Adam steps on the task's own experience after each of a trained oracle's rounds."""

    def tuned_for(self, method: str) -> Tuned:
        """The method's step sizes."""
        usual = Tuned(self.train.adaptation.inner_lr, self.train.epsilon)
        return self.tuned.get(method, usual)


@dataclass(frozen=True)
class OnPolicySetting:
    """How the policy-gradient suite is run on one family; the same for every method."""

    train: OnPolicyConfig
    """Meta-training; the algorithm is replaced."""
    seeds: int = 5
    """Meta-training seeds."""
    tasks: int = 8
    """Tasks of each split, the first ones."""
    steps: tuple[int, ...] = (0, 1, 2, 5)
    """Inner steps (k) that are judged, each on as many fresh episodes as in training."""
    tuned: dict[str, Tuned] = field(default_factory=dict)
    """Method -> step sizes, where they are not the ones of `train`; from `tune`. The outer one is
    that of one step of `train.outer_steps`."""

    def tuned_for(self, method: str) -> Tuned:
        """The method's step sizes."""
        return self.tuned.get(method, Tuned(self.train.inner_lr, self.train.epsilon))


METHODS: dict[str, dict[str, Any]] = {
    "joint": {"algorithm": "joint"},
    "reptile": {"algorithm": "reptile"},
    "fomaml": {"algorithm": "fomaml"},
    "joint_context": {"algorithm": "joint"},
    "reptile_afresh": {"algorithm": "reptile"},
    "maml": {
        "algorithm": "maml",
        "iterations": 60,
        "meta_batch": 8,
        "train_inner_steps": 3,
    },
}
"""Method -> what differs from a setting's TrainConfig. Second-order MAML takes fewer and shorter
outer steps: through ten inner steps it would take longer than all the others together.
`joint_context` is joint training of which the context alone adapts, a control where Reptile's steps
move nothing else. `reptile_afresh` is Reptile that keeps no context from visit to visit, a control
where it does. That they move the context alone stands in their setting's `also`, as for Reptile."""
VERDICT = ("joint", "reptile")
"""Methods that the verdict is about: every seed trains them."""
INNER_LR = (0.02, 0.05, 0.12, 0.25)
"""Inner step sizes that every method is tried with on validation, at its usual epsilon."""
INNER_LR_BEYOND = {INNER_LR[0]: 0.005, INNER_LR[-1]: 0.5}
"""Tried too where an edge of those is best: the best may lie beyond it."""
EPSILON = (1e-3, 2e-3, 8e-3)
"""Outer step sizes that it is then tried with, at the inner step size that was best."""
ON_POLICY_EPSILON = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""Outer step sizes of policy gradients, tried first at the usual inner one: those in the middle,
and an outermost one where the one beside it is the best so far."""
ON_POLICY_INNER_LR = (0.03, 0.3)
"""Inner step sizes that they are then tried with, at the outer one that was best."""
NO_INNER_LR = ("rl2", "oracle")
"""Who takes no inner step is tried with all outer ones instead: as many trials."""
ADAPTATION = AdaptationConfig(
    inner_steps=10,
    inner_lr=0.05,
    batch=48,
    rehearsal=0,
    window=100,
    tau=50.0,
    holdout=8,
    period=10,
    fast_tau=None,
    plans=0,
)
TRAIN = TrainConfig(
    adaptation=ADAPTATION,
    train_inner_steps=10,
    query_steps=5,
    iterations=400,
    meta_batch=16,
    epsilon=4e-3,
    samples=96,
    compiled=True,
)
AT_20_HZ = ADAPTATION.model_copy(update={"window": 85})
"""Looks back 4.75 s, held-out transitions included: the protocol allows five."""
LEGGED = dataclasses.replace(
    TRAIN,
    adaptation=AT_20_HZ,
    model=DynamicsConfig(hidden=(128, 128)),
    tasks=40,
    rounds=4,
    guided_rounds=1,
    tried_plans=4,
    fit_iterations=2500,
    train_inner_steps=2,
    query_steps=2,
    iterations=1000,
    epsilon=1e-3,
    samples=128,
)
CONTEXT_ALONE = {"context": LEGGED.model.context_lr, "": 2e-3}
"""Factors on the inner step size: a context that moves as usual, and all others (the empty prefix
fits what no other does) 500 times slower than usual. Not at rest, since Reptile's outer step is
along what its inner loops moved."""
LEGGED_SETTING = Setting(
    LEGGED,
    curve_seeds=1,
    ungated_seeds=Setting.seeds,
    tasks=8,
    methods=VERDICT,
    also={"reptile": {"keep": 0.85, "lr_scale": CONTEXT_ALONE}},
    oracle="simulator",
    oracle_seeds=1,
)
POINT_NAV = OnPolicyConfig(iterations=30, sampling=Sampling(episode_steps=50))
HALF_CHEETAH_VEL = OnPolicyConfig(iterations=20, sampling=Sampling(episode_steps=100))
SETTINGS: dict[str, Setting | OnPolicySetting] = {
    "arm": Setting(
        dataclasses.replace(TRAIN, adaptation=ADAPTATION.model_copy(update={"plans": 4})),
        seeds=10,
        other_seeds=10,
        curve_seeds=2,
        tuned={
            "joint": Tuned(0.05, 8e-3),
            "reptile": Tuned(0.12, 8e-3),
            "fomaml": Tuned(0.12, 8e-3),
        },
    ),
    "half_cheetah": dataclasses.replace(
        LEGGED_SETTING,
        methods=(*VERDICT, "fomaml", "joint_context", "reptile_afresh"),
        tuned={
            "joint": Tuned(0.02, 2e-3),
            "reptile": Tuned(0.5, 8e-3),
            "fomaml": Tuned(0.02, 1e-3),
            "joint_context": Tuned(0.005, 8e-3),
            "reptile_afresh": Tuned(0.5, 8e-3),
        },
        also=LEGGED_SETTING.also
        | {
            name: {"lr_scale": CONTEXT_ALONE}
            for name in ("fomaml", "joint_context", "reptile_afresh")
        },
    ),
    # It moves by a Runge-Kutta of order 4, which takes four times a cheetah's time.
    "ant": dataclasses.replace(
        LEGGED_SETTING,
        train=dataclasses.replace(LEGGED, tasks=24),
        tuned={"joint": Tuned(0.05, 1e-3), "reptile": Tuned(0.12, 1e-3)},
    ),
    "rover": Setting(
        dataclasses.replace(TRAIN, adaptation=AT_20_HZ, tasks=48),
        seeds=10,
        curve_seeds=1,
        methods=VERDICT,
        tuned={"joint": Tuned(0.005, 4e-3), "reptile": Tuned(0.05, 8e-3)},
        oracle="simulator",
        oracle_seeds=1,
    ),
    "point_nav": OnPolicySetting(
        POINT_NAV,
        seeds=10,
        tuned={
            "joint": Tuned(0.1, 3e-2),
            "reptile": Tuned(0.1, 3e-4),
            "fomaml": Tuned(0.03, 3e-4),
            "maml": Tuned(0.03, 3e-3),
            "promp": Tuned(0.1, 1e-2),
            "rl2": Tuned(0.1, 3e-3),
            "oracle": Tuned(0.1, 1e-2),
        },
    ),
    "half_cheetah_vel": OnPolicySetting(
        HALF_CHEETAH_VEL,
        seeds=10,
        tuned={
            "joint": Tuned(0.1, 1e-2),
            "reptile": Tuned(0.1, 3e-3),
            "fomaml": Tuned(0.3, 3e-3),
            "maml": Tuned(0.03, 3e-3),
            "promp": Tuned(0.3, 3e-3),
            "rl2": Tuned(0.1, 3e-02),
            "oracle": Tuned(0.1, 1e-2),
        },
    ),
}
"""Family -> how it is run."""


def digest(told: object) -> str:
    """Eight hexadecimal digits of whatever can be written as JSON: other settings, other digits."""
    text = json.dumps(told, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]

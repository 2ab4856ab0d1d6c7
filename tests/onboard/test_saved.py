"""reptile_agent.onboard.saved: what was saved loads exactly, anything else is refused by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from reptile_agent.atomic import atomic_write
from reptile_agent.onboard import parameters
from reptile_agent.onboard.saved import SavedError, load_parameters, save_parameters

ROOT = Path(__file__).parents[2]


def near(bundle, way: float = 1e-3) -> np.ndarray:
    return bundle.start + np.float32(way)


@pytest.fixture
def file(bundle, tmp_path) -> Path:
    path = tmp_path / "adapted.safetensors"
    figures = {"live_before": 2.0, "live_after": 1.0, "further": float("nan")}
    save_parameters(path, bundle, near(bundle), "adapted", 7, figures)
    return path


def test_what_was_saved_comes_back_to_the_bit(bundle, file):
    found = load_parameters(file, bundle, "adapted")
    np.testing.assert_array_equal(found.parameters, near(bundle))
    assert found.about.version == 7
    assert found.about.start_sha256 == bundle.manifest.start_sha256
    assert found.about.evidence == {"live_before": 2.0, "live_after": 1.0, "further": None}
    assert found.about.created.endswith("+00:00")


def test_what_drives_the_robot_is_not_taken_for_a_start(bundle, file):
    with pytest.raises(SavedError, match="holds role 'adapted', not 'start'"):
        load_parameters(file, bundle, "start")


def test_parameters_of_another_bundle_are_refused(bundle, arm_bundle, file, tmp_path):
    with pytest.raises(SavedError, match="does not hold parameters of this bundle"):
        load_parameters(file, arm_bundle, "adapted")
    other = bundle.manifest.model_copy(update={"start_sha256": "0" * 64})
    object.__setattr__(bundle, "manifest", other)
    with pytest.raises(SavedError, match=r"was adapted from start .* give the bundle"):
        load_parameters(file, bundle, "adapted")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda start: start + np.float32(1.0), "outside the trust region: distance"),
        (
            lambda start: np.where(np.arange(start.size) == 3, np.nan, start),
            "has values that are not finite",
        ),
    ],
)
def test_parameters_that_no_gate_would_let_through_are_refused(bundle, file, spoil, sentence):
    flat = spoil(bundle.start).astype(np.float32)
    save_parameters(file, bundle, flat, "adapted", 1)
    with pytest.raises(SavedError, match=sentence):
        load_parameters(file, bundle, "adapted")


def test_a_layer_out_of_its_trust_region_is_refused(bundle, file):
    strict = bundle.manifest.adaptation.model_copy(update={"max_layer_distance": 1e-6})
    object.__setattr__(
        bundle, "manifest", bundle.manifest.model_copy(update={"adaptation": strict})
    )
    with pytest.raises(SavedError, match="max_layer_distance"):
        load_parameters(file, bundle, "adapted")


def test_a_file_of_other_tensors_is_refused(bundle, file):
    tensors = parameters.views(near(bundle), bundle.manifest.parameters)
    file.write_bytes(save(tensors))
    with pytest.raises(SavedError, match="does not hold parameters of this bundle"):
        load_parameters(file, bundle, "adapted")
    file.write_bytes(save({"other": np.zeros(3, np.float32)}))
    with pytest.raises(SavedError, match="there is nothing"):
        load_parameters(file, bundle, "adapted")


def test_links_and_nothing_are_refused(bundle, file, tmp_path):
    (tmp_path / "link").symlink_to(file)
    for path in (tmp_path / "link", tmp_path / "no_such_file", tmp_path):
        with pytest.raises(FileNotFoundError, match="missing or no plain file"):
            load_parameters(path, bundle, "adapted")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=4), st.booleans())
def test_whatever_is_damaged_loads_as_it_was_or_not_at_all(bundle, file, flips, cut):
    whole = file.read_bytes()
    data = bytearray(whole)
    for flip in flips:
        # Half of them in the header, which is a small part of it all.
        at = flip // 8 % (len(data) if flip % 2 else 1200)
        data[at] ^= 1 << flip % 8
    spoilt = file.with_name("spoilt")
    spoilt.write_bytes(data[: flips[0] % len(data)] if cut else data)
    try:
        found = load_parameters(spoilt, bundle, "adapted")
    except SavedError:
        return
    np.testing.assert_array_equal(found.parameters, near(bundle))
    assert found.about == load_parameters(file, bundle, "adapted").about


def test_a_failed_write_leaves_the_old_file(bundle, file, monkeypatch):
    def fails(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="No space"):
        save_parameters(file, bundle, near(bundle, 2e-3), "adapted", 8)
    monkeypatch.undo()
    assert load_parameters(file, bundle, "adapted").about.version == 7


def test_an_atomic_write_follows_no_link_out_of_its_folder(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("stays")
    (tmp_path / "file").symlink_to(outside)
    atomic_write(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert outside.read_text() == "stays"
    (tmp_path / ".file.partial").symlink_to(outside)
    atomic_write(tmp_path / "file", b"newer")
    assert (tmp_path / "file").read_bytes() == b"newer"
    assert outside.read_text() == "stays"


def test_killed_at_random_moments_of_a_save_the_old_or_the_new_loads(bundle_path):
    command = [sys.executable, "-m", "bench.kill_saves", "--kills", "40"]
    done = subprocess.run(
        [*command, "--bundle", str(bundle_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["partial"], found["went_back"]) == (0, 0)
    assert found["saves"] > 40, "it was killed while it saved"

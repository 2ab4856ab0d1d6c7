"""reptile_agent.onboard.bundle: each damage is refused by a sentence with the file and the mend."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from reptile_agent.onboard import bundle as bundle_module
from reptile_agent.onboard.bundle import Bundle, BundleError, step_sizes
from reptile_agent.onboard.manifest import GRAPHS, TENSORS

FILES = (*GRAPHS, *TENSORS)


def refused(path, *words: str) -> None:
    with pytest.raises(BundleError) as error:
        Bundle.load(path)
    for word in words:
        assert word in str(error.value), str(error.value)
    assert "\n" not in str(error.value)


def test_an_undamaged_bundle_loads(bundle, bundle_path):
    assert bundle.start.dtype == np.float32
    assert bundle.start.size == sum(entry.size for entry in bundle.manifest.parameters)
    start = load_file(bundle_path / "start.safetensors")
    np.testing.assert_array_equal(
        bundle.start, np.concatenate([start[e.name].ravel() for e in bundle.manifest.parameters])
    )
    assert bundle.rehearsal["obs"].shape == (512, 10)
    for graph in GRAPHS:
        assert bundle.session(graph).get_outputs()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", [0.0, 0.5, 0.999])
def test_one_flipped_bit_is_noticed(bundle_copy, name, where):
    data = bytearray((bundle_copy / name).read_bytes())
    data[int(where * len(data))] ^= 1
    (bundle_copy / name).write_bytes(data)
    refused(bundle_copy, str(bundle_copy / name), "sha256", "copy the bundle again")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("size", [0, 100])
def test_a_file_cut_off_is_named_with_both_sizes(bundle_copy, name, size):
    whole = (bundle_copy / name).stat().st_size
    (bundle_copy / name).write_bytes((bundle_copy / name).read_bytes()[:size])
    refused(
        bundle_copy,
        str(bundle_copy / name),
        f"has {size} bytes",
        str(whole),
        "copy the bundle again",
    )


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_is_named(bundle_copy, name):
    (bundle_copy / name).unlink()
    refused(bundle_copy, str(bundle_copy / name), "is missing", "copy the whole bundle again")


@pytest.mark.parametrize("name", FILES)
def test_a_link_is_not_followed(bundle_copy, bundle_path, name):
    (bundle_copy / name).unlink()
    (bundle_copy / name).symlink_to(bundle_path / name)
    refused(bundle_copy, str(bundle_copy / name), "no plain file")


def test_a_folder_in_a_files_place_is_refused(bundle_copy):
    (bundle_copy / "act.onnx").unlink()
    (bundle_copy / "act.onnx").mkdir()
    refused(bundle_copy, "act.onnx is missing or no plain file")


@pytest.mark.parametrize("there", [True, False])
def test_a_path_without_a_bundle_is_answered_by_the_command_that_writes_one(tmp_path, there):
    path = tmp_path if there else tmp_path / "nowhere"
    refused(path, f"no bundle at {path}", "manifest.json", "`reptile-agent export`")


def test_a_manifest_too_large_to_be_one_is_not_parsed(bundle_copy):
    with open(bundle_copy / "manifest.json", "ab") as file:
        file.write(b" " * 2**20)
    refused(bundle_copy, "manifest.json is larger than 1048576 bytes", "export again")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b'{"schema_version": 1}'])
def test_a_manifest_that_is_none_is_refused(bundle_copy, data):
    (bundle_copy / "manifest.json").write_bytes(data)
    refused(bundle_copy, "manifest.json", "export the bundle again")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(surprise=1), ("surprise", "Extra inputs are not permitted")),
        (lambda d: d["robot"].update(wings=2), ("robot.wings", "Extra inputs")),
        (lambda d: d.update(schema_version=1), ("schema_version", "Input should be 2")),
        (lambda d: d.pop("robot"), ("robot", "required")),
        (lambda d: d.update(learner="magic"), ("learner", "'dynamics'")),
        (lambda d: d["files"].pop("act.onnx"), ("files must be",)),
        (lambda d: d["files"].update({"../../x": d["files"]["act.onnx"]}), ("files must be",)),
        (lambda d: d["files"]["act.onnx"].update(sha256="0" * 63), ("act.onnx.sha256",)),
        (lambda d: d["files"]["act.onnx"].update(bytes=2**31), ("act.onnx.bytes",)),
        (lambda d: d["lr_scale"].popitem(), ("lr_scale must name every parameter",)),
        (lambda d: d["adaptation"].update(inner_lr=-1), ("adaptation.inner_lr",)),
        (lambda d: d["plan"].update(samples=10**9), ("plan.samples",)),
        (lambda d: d["robot"]["actions"][0].update(low=9.0), ("actions.0", "low < high")),
    ],
)
def test_a_manifest_that_says_other_things_is_refused_by_field(
    bundle_copy, edit_manifest, change, words
):
    edit_manifest(bundle_copy, change)
    refused(bundle_copy, "manifest.json", "export the bundle again", *words)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_start_that_is_not_finite_is_refused_by_tensor(bundle_copy, replace_file, value):
    start = load_file(bundle_copy / "start.safetensors")
    start["w1"].flat[3] = value
    replace_file(bundle_copy, "start.safetensors", save(start))
    refused(bundle_copy, "start.safetensors", "'w1' has values that are not finite", "export again")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("b0"), "'b0' should be float32"),
        (lambda t: t.update(b0=t["b0"][:1].copy()), "'b0' should be float32"),
        (lambda t: t.update(b0=t["b0"].astype(np.float64)), "there is float64"),
    ],
)
def test_a_start_of_another_shape_is_refused_by_tensor(bundle_copy, replace_file, change, words):
    start = load_file(bundle_copy / "start.safetensors")
    change(start)
    replace_file(bundle_copy, "start.safetensors", save(start))
    refused(bundle_copy, "start.safetensors", words, "export again")


def test_another_start_than_the_manifests_is_refused(bundle_copy, replace_file):
    start = load_file(bundle_copy / "start.safetensors")
    start["w1"].flat[3] += 1e-3
    replace_file(bundle_copy, "start.safetensors", save(start))
    refused(bundle_copy, "start.safetensors", "start_sha256", "export again")


@pytest.mark.parametrize("name", TENSORS)
def test_a_file_that_hashes_right_and_is_no_safetensors_is_refused(bundle_copy, replace_file, name):
    replace_file(bundle_copy, name, b"something else altogether")
    refused(bundle_copy, name, "export again")


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("weight"),
        lambda t: t.update({n: v[:0].copy() for n, v in t.items()}),
        lambda t: t.update(obs=t["obs"][:, :3].copy()),
        lambda t: t.update(extra=np.zeros(1, np.float32)),
    ],
)
def test_a_rehearsal_of_another_shape_is_refused(bundle_copy, replace_file, change):
    rehearsal = load_file(bundle_copy / "rehearsal.safetensors")
    change(rehearsal)
    replace_file(bundle_copy, "rehearsal.safetensors", save(rehearsal))
    refused(bundle_copy, "rehearsal.safetensors should hold", "export again")


def test_a_rehearsal_that_is_not_finite_is_refused(bundle_copy, replace_file):
    rehearsal = load_file(bundle_copy / "rehearsal.safetensors")
    rehearsal["next_obs"][5, 1, 2] = np.nan
    replace_file(bundle_copy, "rehearsal.safetensors", save(rehearsal))
    refused(bundle_copy, "rehearsal.safetensors has values that are not finite", "export again")


def test_size_and_hash_are_checked_before_a_byte_is_parsed(bundle_copy, monkeypatch):
    data = bytearray((bundle_copy / "start.safetensors").read_bytes())
    data[3] ^= 0xFF
    (bundle_copy / "start.safetensors").write_bytes(data)

    def parse(_):
        pytest.fail("parsed before it was checked")

    monkeypatch.setattr(bundle_module, "load", parse)
    refused(bundle_copy, "sha256")


def test_what_was_checked_is_what_runs(bundle_copy):
    # Graphs are kept as the bytes that were hashed: the file may change afterwards.
    loaded = Bundle.load(bundle_copy)
    (bundle_copy / "act.onnx").write_bytes(b"swapped")
    assert loaded.session("act.onnx").get_outputs()[0].name == "action"


def test_step_sizes_carry_each_parameters_factor(bundle):
    sizes = step_sizes(bundle.manifest, 0.25)
    assert {name: float(v) for name, v in sizes.items()} == {
        "w0": 0.25,
        "b0": 0.5,
        "w1": 0.25,
        "b1": 0.5,
        "context": 0.25,
        "gain0": 0.25,
        "shift0": 0.25,
    }
    assert all(v.dtype == np.float32 and v.shape == () for v in sizes.values())


def test_the_starts_hash_is_that_of_its_floats(bundle):
    assert hashlib.sha256(bundle.start.tobytes()).hexdigest() == bundle.manifest.start_sha256


def test_a_bundle_that_is_replaced_while_it_is_read_is_read_again(bundle_copy, monkeypatch):
    from reptile_agent.atomic import atomic_write_folder
    from reptile_agent.onboard.folder import Folder

    files = {file.name: file.read_bytes() for file in bundle_copy.iterdir()}
    read, seen = Folder.read, []

    def read_and_replace(self, name, at_most):
        seen.append(name)
        if len(seen) == 3:
            atomic_write_folder(bundle_copy, files)  # the open folder's files are gone
        return read(self, name, at_most)

    monkeypatch.setattr(Folder, "read", read_and_replace)
    assert Bundle.load(bundle_copy).start.size
    assert len(seen) > len(files), "it was read again"


def test_a_pipe_in_a_files_place_does_not_make_the_reader_wait(bundle_copy):
    import os

    (bundle_copy / "act.onnx").unlink()
    os.mkfifo(bundle_copy / "act.onnx")
    refused(bundle_copy, "act.onnx is missing or no plain file")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["parameters"].append(d["parameters"][0]), "parameters name a tensor twice"),
        (lambda d: d["parameters"][0].update(shape=[0]), "parameters.0.shape.0"),
        (lambda d: d["parameters"][0].update(shape=[1] * 9), "parameters.0.shape"),
        (lambda d: d["lr_scale"].update(w0=math.nan), "lr_scale.w0"),
        (lambda d: d["normaliser"].update(x=[math.inf]), "normaliser.x.0"),
        (lambda d: d.update({"a\nb" * 99: 1}), "Extra inputs"),
    ],
)
def test_a_manifest_with_numbers_that_cannot_be_is_refused(
    bundle_copy, edit_manifest, change, words
):
    edit_manifest(bundle_copy, change)
    refused(bundle_copy, "manifest.json", words)

"""reptile_agent.export.write_bundle: a folder appears whole, or not at all."""

from __future__ import annotations

import hashlib
import json

import pytest

from reptile_agent.export import write_bundle
from reptile_agent.onboard.manifest import GRAPHS, TENSORS


def test_the_manifest_names_every_file_with_its_hash_and_size(bundle_path):
    manifest = json.loads((bundle_path / "manifest.json").read_text())
    assert set(manifest["files"]) == {*GRAPHS, *TENSORS}
    assert {file.name for file in bundle_path.iterdir()} == {*GRAPHS, *TENSORS, "manifest.json"}
    for name, entry in manifest["files"].items():
        data = (bundle_path / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def test_the_manifest_says_where_the_start_comes_from(bundle):
    origin = bundle.manifest.provenance
    assert (origin.family, origin.split, origin.algorithm, origin.seed) == (
        "arm",
        "train",
        "reptile",
        0,
    )
    assert {"numpy", "torch", "mujoco", "onnx", "reptile-agent"} <= set(origin.versions)
    scale = bundle.manifest.lr_scale
    assert {name: scale[name] for name in scale if name.startswith("b")} == {"b0": 2.0, "b1": 2.0}
    assert scale["w0"] == scale["w1"] == 1.0


def test_a_folder_that_is_no_bundle_is_not_overwritten(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists and is no bundle; name another folder"):
        write_bundle.write_bundle(None, tmp_path)  # refused before the trainer is looked at
    assert (tmp_path / "precious.txt").read_text() == "mine"

"""The shipped JSON schema says what the manifest's model says."""

from __future__ import annotations

import copy
import json

import jsonschema
import pytest

from tools import manifest_schema


@pytest.fixture
def validator():
    schema = json.loads(manifest_schema.FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_file_is_up_to_date():
    assert manifest_schema.FILE.read_text() == manifest_schema.document(), (
        f"write it anew: {manifest_schema.COMMAND}"
    )


def test_the_shipped_bundle_is_valid_and_a_changed_one_is_not(validator, arm_bundle_path):
    document = json.loads((arm_bundle_path / "manifest.json").read_text())
    validator.validate(document)
    for change in (
        lambda d: d.update(schema_version=1),
        lambda d: d.update(surprise=1),
        lambda d: d.pop("robot"),
        lambda d: d["files"]["act.onnx"].update(sha256="0"),
        lambda d: d["parameters"][0].update(shape=[-1]),
    ):
        changed = copy.deepcopy(document)
        change(changed)
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(changed)

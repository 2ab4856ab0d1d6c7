"""reptile_agent.onboard.signature: only what was signed with the key's other half is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("model_signing")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bench.fault_bundles import edit_manifest
from reptile_agent.cli import main
from reptile_agent.onboard import signature
from reptile_agent.onboard.bundle import Bundle, BundleError


def keys(folder: Path, key=None, password: bytes | None = None) -> tuple[Path, Path]:
    """A private and a public key, as `openssl` writes them."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    encryption = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    folder.mkdir(exist_ok=True)
    (folder / "private.pem").write_bytes(key.private_bytes(pem, pkcs8, encryption))
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    (folder / "public.pem").write_bytes(key.public_key().public_bytes(pem, public))
    return folder / "private.pem", folder / "public.pem"


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    return int(end.value.code or 0)


@pytest.fixture
def signed(bundle_copy, tmp_path) -> tuple[Path, Path]:
    """A bundle that the command signed, and the public key."""
    private, public = keys(tmp_path / "keys")
    assert call("sign", bundle_copy, "--key", private) == 0
    return bundle_copy, public


def refused(bundle: Path, key: Path, *words: str) -> None:
    with pytest.raises(BundleError) as error:
        Bundle.load(bundle, key=key)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_a_signed_bundle_loads_with_the_key_and_without(signed, capsys):
    bundle, public = signed
    assert Bundle.load(bundle, key=public).start.size
    assert Bundle.load(bundle).start.size
    (bundle / "notes.txt").write_text("what is not of the bundle is not signed, and not read")
    assert Bundle.load(bundle, key=public).start.size


def test_another_key_is_refused(signed, tmp_path):
    _, other = keys(tmp_path / "other")
    refused(signed[0], other, "is not signed for", "other/public.pem")


def test_a_manifest_that_was_changed_after_signing_is_refused(signed):
    bundle, public = signed
    edit_manifest(bundle, lambda document: document["adaptation"].update(inner_lr=0.5))
    assert Bundle.load(bundle).manifest.adaptation.inner_lr == 0.5, "sound in itself"
    refused(bundle, public, "is not signed for", "manifest.json")


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 10_000, b"\xff\xfe"])
def test_a_signature_that_is_none_is_refused(signed, data):
    (signed[0] / signature.FILE).write_bytes(data)
    refused(signed[0], signed[1], "is not signed for")


def test_a_signature_of_another_bundle_is_refused(signed, adam_bundle_path):
    for file in adam_bundle_path.iterdir():
        (signed[0] / file.name).write_bytes(file.read_bytes())
    refused(*signed, "is not signed for")


def test_a_bundle_without_a_signature_is_refused_where_a_key_is_given(bundle_copy, tmp_path):
    _, public = keys(tmp_path / "keys")
    refused(bundle_copy, public, "is not signed", "reptile-agent sign")
    refused(bundle_copy, tmp_path / "none.pem", "not signed")


def test_a_key_that_is_none_is_refused(signed, tmp_path):
    refused(signed[0], tmp_path / "none.pem", "there is no public key")
    (tmp_path / "text.pem").write_text("not a key")
    refused(signed[0], tmp_path / "text.pem", "is no public key")
    private = tmp_path / "keys" / "private.pem"
    refused(signed[0], private, "is no public key")
    (tmp_path / "text.pem").write_text("-----BEGIN PUBLIC KEY-----\nno\n-----END PUBLIC KEY-----")
    refused(signed[0], tmp_path / "text.pem", "is not signed for")


def test_without_the_library_it_is_said_how_to_get_it(signed, tmp_path, monkeypatch):
    (tmp_path / "model_signing.py").write_text("raise ModuleNotFoundError('no model_signing')")
    monkeypatch.syspath_prepend(tmp_path)
    refused(*signed, "cannot be checked here", "pip install 'reptile-agent[sign]'")


def test_sign_says_what_is_wrong_with_a_key(bundle_copy, tmp_path, capsys, monkeypatch):
    assert call("sign", bundle_copy, "--key", tmp_path / "none.pem") == 2
    assert "reptile-agent sign --help" in capsys.readouterr().err
    private, _ = keys(tmp_path / "rsa", rsa.generate_private_key(65537, 2048))
    assert call("sign", bundle_copy, "--key", private) == 2
    assert "no private key that can sign" in capsys.readouterr().err
    private, public = keys(tmp_path / "locked", password=b"secret")
    assert call("sign", bundle_copy, "--key", private) == 2
    assert not (bundle_copy / signature.FILE).exists()
    monkeypatch.setenv("REPTILE_AGENT_KEY_PASSWORD", "secret")
    assert call("sign", bundle_copy, "--key", private) == 0
    assert Bundle.load(bundle_copy, key=public)


def test_sign_does_not_sign_a_broken_bundle(bundle_copy, tmp_path, capsys):
    private, _ = keys(tmp_path / "keys")
    (bundle_copy / "act.onnx").write_bytes(b"")
    assert call("sign", bundle_copy, "--key", private) == 2
    assert "act.onnx has 0 bytes" in capsys.readouterr().err
    assert not (bundle_copy / signature.FILE).exists()


def test_verify_shows_the_signature_among_its_checks(signed, tmp_path, capsys):
    bundle, public = signed
    steps = ("--inner-steps", 1)
    capsys.readouterr()
    assert call("verify", bundle, "--key", public, "--json", *steps) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {"model.sig: signed for the key"} <= {r["check"] for r in rows if r["passed"]}
    _, other = keys(tmp_path / "other")
    assert call("verify", bundle, "--key", other, "--json", *steps) == 2
    found = capsys.readouterr()
    document = json.loads(found.out)
    assert not document["passed"]
    assert "is not signed for" in document["refused"]
    assert "is not signed for" in found.err
    assert [r["check"] for r in document["rows"] if not r["passed"]] == [
        "model.sig: signed for the key"
    ]

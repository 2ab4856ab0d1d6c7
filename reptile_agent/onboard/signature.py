"""Signatures of bundles, by the library model-signing: who may say what a robot runs.

The signature is a file of the bundle, `model.sig`, over all others. Any tool that speaks OpenSSF
Model Signing can check it. The library (extra `sign`) is only needed by who signs and who checks;
it takes 60 MB and most of a second to import, so that a robot checks in a process of its own.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reptile_agent.onboard import child
from reptile_agent.onboard.checks import BundleError
from reptile_agent.onboard.folder import Folder

FILE = "model.sig"
MAX_BYTES = 2**20
CHILD = "reptile_agent.onboard.signature"
WALL_S = 60.0
NOT_INSTALLED = 3
"""Exit status where the library is missing."""
MEND = "pip install 'reptile-agent[sign]'"


def read(folder: Folder) -> bytes:
    """The signature of the bundle in a folder.

    Raises:
        BundleError: there is none.
    """
    data = folder.read(FILE, MAX_BYTES)
    if data is None:
        raise BundleError(
            f"{folder.path} is not signed (no {FILE}); sign it by `reptile-agent sign`, or load it "
            f"without a key"
        )
    if len(data) > MAX_BYTES:
        raise BundleError(f"{folder.path / FILE} is larger than {MAX_BYTES} bytes; sign again")
    return data


def check(path: Path, files: Mapping[str, bytes], key: Path) -> None:
    """Check the signature of what was read, not of what lies on the disk by now.

    Args:
        path: of the bundle, for messages.
        files: names -> contents, the signature among them.
        key: file with the public key, PEM.

    Raises:
        BundleError: it is not signed with the private key of that public one, or the library is
            not installed.
    """
    if not key.is_file():
        raise BundleError(f"there is no public key {key}; name the file with --key")
    if b"PUBLIC KEY" not in key.read_bytes()[:MAX_BYTES]:
        raise BundleError(
            f"{key} is no public key (PEM); name the one that belongs to the private key that "
            f"signed, not that one"
        )
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
        status, output, said = child.run(CHILD, folder, str(key.resolve()), wall_s=WALL_S)
    answer = " ".join(output.decode(errors="replace").split())[:300] or said
    if status is None:
        answer = f"not checked within {WALL_S:g} s"
    if status == NOT_INSTALLED:
        raise BundleError(f"a signature cannot be checked here: {answer}; {MEND}")
    if status != 0 or answer != "signed":
        raise BundleError(
            f"{path} is not signed for {key} ({answer}); use a bundle from whom you trust, or the "
            f"key of who signed this one"
        )


def sign(path: Path, names: Iterable[str], private_key: Path, password: str | None = None) -> bytes:
    """The signature of some files of a folder, to be written to `model.sig` in it.

    Args:
        path: of the folder.
        names: of the bundle's files; whatever else lies there is not signed.
        private_key: PEM.
        password: of the private key.

    Raises:
        ModuleNotFoundError: the library is not installed.
        ValueError: the key is no elliptic-curve key (P-256, P-384 or P-521), or needs a password.
    """
    try:
        from model_signing import hashing, signing
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; {MEND}") from None
    try:
        config = signing.Config().use_elliptic_key_signer(
            private_key=private_key,
            # It says str, and hands it to a library that takes bytes.
            password=password.encode() if password else None,  # type: ignore[arg-type]
        )
    except Exception as error:  # the library, and the one below it, raise many types
        said = " ".join(str(error).split())
        raise ValueError(
            f"{private_key} is no private key that can sign ({said}); `reptile-agent sign --help` "
            f"says how to make one"
        ) from None
    config.set_hashing_config(_hashing(hashing.Config()))
    with tempfile.TemporaryDirectory() as folder:
        copy, file = Path(folder) / "bundle", Path(folder) / FILE
        copy.mkdir()
        for name in names:
            (copy / name).write_bytes((path / name).read_bytes())
        config.sign(copy, file)
        return file.read_bytes()


def _hashing(config: Any) -> Any:
    """Everything but the signature itself."""
    return config.set_ignored_paths(paths=[FILE], ignore_git_paths=False)


def _main(folder: Path, key: Path) -> int:
    """Check in this process: prints `signed` or what is wrong."""
    try:
        from model_signing import hashing, verifying
    except ModuleNotFoundError as error:
        print(error)
        return NOT_INSTALLED
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=key)
        config.set_hashing_config(_hashing(hashing.Config()))
        config.verify(folder, folder / FILE)
    except Exception as error:  # the library raises many types; each means: not signed
        print(error or type(error).__name__)
        return 1
    print("signed")
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), Path(sys.argv[2])))

"""What a result came from: versions of packages, and the commit."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path

from reptile_agent import __version__

PACKAGES = ("numpy", "torch", "mujoco", "onnx", "onnxscript", "onnxruntime")


def versions() -> dict[str, str]:
    """Versions of this project and of what numbers depend on."""
    found = {"reptile-agent": __version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a robot has no torch
    return found


def git_commit() -> str:
    """Commit of the checkout that this code runs from; 'unknown' outside of one."""
    here = Path(__file__).parent
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return run.stdout.strip() if run.returncode == 0 else "unknown"

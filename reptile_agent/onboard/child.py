"""Starts a module of this package as a process of its own, bare and fast."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import reptile_agent

OUTPUT_BYTES = 2**18
"""What is read of a child's stdout, and of its stderr."""


def run(
    module: str, *arguments: str, request: bytes = b"", wall_s: float
) -> tuple[int | None, bytes, str]:
    """Run `python -m module`.

    It does not inherit this process' memory, and starts without Python's `site`, whose hooks take
    longer than the interpreter: all paths are handed down.

    Args:
        module: full name.
        arguments: for it.
        request: its stdin.
        wall_s: after so much time it is killed.

    Returns:
        Its exit status (negative: the signal that ended it; None: it was not done in time), its
        stdout, and the last line of its stderr.
    """
    root = str(Path(reptile_agent.__file__).parents[1])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)]),
        # Threads that wait in a pool would each reserve memory.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    # Files and not pipes: whatever it writes, only so much is read.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            status = subprocess.run(
                [sys.executable, "-S", "-P", "-m", module, *arguments],
                input=request,
                stdout=output,
                stderr=errors,
                env=environment,
                timeout=wall_s,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = None
        output.seek(0)
        errors.seek(0)
        said = errors.read(OUTPUT_BYTES).decode(errors="replace").splitlines()
        last_line = next((line.strip() for line in reversed(said) if line.strip()), "")
        return status, output.read(OUTPUT_BYTES), last_line[:200]

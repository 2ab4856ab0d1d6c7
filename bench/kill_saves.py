"""What is left of saved parameters when the process that saves them is killed at any moment.

    python -m bench.kill_saves --kills 1000

A child saves one version after another without a pause and is killed with SIGKILL at a random
time; then the file has to load, as a version that is no older than the last one seen.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tyro

from bench.shipped import SHIPPED
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.saved import load_parameters, save_parameters

LONGEST_S = 0.05
"""A child lives so long at most: many saves."""


@dataclass(frozen=True)
class Args:
    """Kill a process that saves parameters, again and again."""

    bundle: Path = SHIPPED
    """Bundle whose parameters are saved."""
    kills: int = 1000
    """Processes killed."""
    seed: int = 0
    """Of the moments."""


@dataclass(frozen=True)
class Killed:
    """What the kills came to."""

    kills: int
    saves: int
    """Versions that were saved in all."""
    caught: int
    """Kills that left a half-written file beside the good one."""
    partial: int
    """Files that did not load, or were not what their version says: must be 0."""
    went_back: int
    """Files older than one seen before: must be 0."""


def kill_saves(bundle: Bundle, folder: Path, kills: int, seed: int = 0) -> Killed:
    """Kill a saving process at `kills` random moments; forks, so call it in one thread.

    Args:
        bundle: whose parameters are saved.
        folder: empty, for the file.
        kills: processes to kill.
        seed: of the moments.
    """
    rng, file = np.random.default_rng(seed), folder / "adapted.safetensors"
    save_parameters(file, bundle, _version(bundle, 0), "adapted", 0)
    last = caught = partial = went_back = 0
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            _save_forever(bundle, file, last + 1)
        time.sleep(rng.uniform(0.0, LONGEST_S))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        caught += any(folder.glob(".*.partial"))
        for leftover in folder.glob(".*.partial"):
            leftover.unlink()
        try:
            found = load_parameters(file, bundle, "adapted")
        except (ValueError, OSError) as error:
            print(error, file=sys.stderr)
            partial += 1
            continue
        version = found.about.version
        partial += not np.array_equal(found.parameters, _version(bundle, version))
        went_back += version < last
        last = max(last, version)
    return Killed(kills, last + 1, caught, partial, went_back)


def _save_forever(bundle: Bundle, file: Path, version: int) -> None:
    """The child: never returns."""
    try:
        while True:
            save_parameters(file, bundle, _version(bundle, version), "adapted", version)
            version += 1
    finally:
        os._exit(1)


def _version(bundle: Bundle, version: int) -> np.ndarray:
    """Parameters that only this version has."""
    noise = np.random.default_rng(version).standard_normal(bundle.start.size)
    return bundle.start + (1e-3 * noise).astype(np.float32)


def main() -> None:
    """Print what the kills came to as JSON; exit code 1 where a file was spoilt."""
    args = tyro.cli(Args)
    with tempfile.TemporaryDirectory() as folder:
        found = kill_saves(Bundle.load(args.bundle), Path(folder), args.kills, args.seed)
    print(json.dumps(asdict(found)))
    sys.exit(bool(found.partial or found.went_back))


if __name__ == "__main__":
    main()

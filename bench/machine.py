"""What a benchmark ran on: written beside its rows."""

from __future__ import annotations

import datetime
import os
import platform

from reptile_agent.provenance import git_commit, versions


def about() -> dict[str, object]:
    """Machine, versions, commit and time of this run."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": versions(),
        "git_commit": git_commit(),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far.

    Not `ru_maxrss`, in which a process that is started finds its parent's.
    """
    with open("/proc/self/status") as file:
        (peak,) = (line.split()[1] for line in file if line.startswith("VmHWM:"))
    return int(peak) / 1024


def rss_mb_now() -> float:
    """Resident memory of this process now."""
    import psutil

    return psutil.Process().memory_info().rss / 2**20


def _processor() -> str:
    with open("/proc/cpuinfo") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.processor()

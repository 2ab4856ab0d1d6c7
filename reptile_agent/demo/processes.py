"""The robot's nodes as processes of their own, with their logs in files."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

STOP_S = 5.0
"""A node that has not ended so long after SIGINT is killed."""
TAIL_LINES = 12


class DemoError(RuntimeError):
    """An episode could not be run; the message says what to look at."""


def local_udp() -> dict[str, str]:
    """Environment in which nodes meet on this machine alone, and not over shared memory.

    `ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST` would not do: with it rmw_fastrtps takes shared memory
    whatever else is set, and that holds messages up (docs/decisions/08).
    """
    from ament_index_python.packages import get_package_share_directory

    profile = Path(get_package_share_directory("reptile_agent")) / "config" / "localhost.xml"
    return {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT",
        "FASTDDS_DEFAULT_PROFILES_FILE": str(profile),
    }


@dataclass
class Nodes:
    """Starts nodes of the built workspace, and ends all of them when it is left.

    Args:
        params_file: YAML file for every node.
        logs: folder of their output.
        domain: ROS domain, on this machine only.
    """

    params_file: Path
    logs: Path
    domain: int
    _started: dict[str, subprocess.Popen] = field(default_factory=dict)

    def start(self, package: str, executable: str, **parameters: object) -> None:
        """Start one node; `parameters` go over those of the file."""
        from ament_index_python.packages import get_package_prefix

        program = Path(get_package_prefix(package)) / "lib" / package / executable
        command = [str(program), "--ros-args", "--params-file", str(self.params_file)]
        for name, value in parameters.items():
            command += ["-p", f"{name}:={value}"]
        environment = (
            os.environ
            | local_udp()
            | {
                "ROS_DOMAIN_ID": str(self.domain),
                # One thread each: the nodes share a small machine.
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
            }
        )
        self.logs.mkdir(parents=True, exist_ok=True)
        with open(self.logs / f"{executable}.txt", "wb") as log:
            self._started[executable] = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def check(self) -> None:
        """See whether all still run.

        Raises:
            DemoError: one does not.
        """
        for name, process in self._started.items():
            if process.poll() is not None:
                code = process.returncode
                raise DemoError(f"{name} ended with exit code {code}:\n{self.tail(name)}")

    def tail(self, name: str) -> str:
        """The last lines of a node's log, and where it lies."""
        log = self.logs / f"{name}.txt"
        lines = log.read_text(errors="replace").splitlines()
        return "\n".join([*lines[-TAIL_LINES:], f"(log: {log})"])

    def __enter__(self) -> Nodes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._started.values():
            _signal(process, signal.SIGINT)
        for process in self._started.values():
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)
                process.wait()


def _signal(process: subprocess.Popen, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)

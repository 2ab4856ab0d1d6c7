"""How evenly the control process answers its sensors, idle and while the robot learns, in one run.

    python -m bench.control_jitter --json

Four parts over DDS between processes: this one publishes joint_states at 200 Hz and takes the
commands; policy_node controls; adapter_node, niced, hears every transition and learns: never
(`idle`, it is frozen) or as often as it can (`adapting`). Idle and adapting take turns. Then it
learns while a fifth process floods it with transitions (`flooded`), is stopped in the midst of it
(`hung`, SIGSTOP) and is killed (`killed`).

**The round trip** is from just before a JointState is published until DDS has received the first
command that was computed from it. Two commands echo what was measured of their joints (the planner
plans as always; see echo_bundle.py), and that is the number of the message: nothing is guessed.
policy_node does not answer messages, it ticks by its own 200 Hz timer and takes the newest. So a
round trip holds the wait for that tick. The wait is set, or the result would be a matter of luck:
a first stretch of slowly shifting messages finds when the ticks are, and then the messages go out
half a period before. 2.5 ms of each round trip are that wait; a message that comes more than
2.5 ms late waits for the next tick, 5 ms more.

Rows: `load`; `p50_ms, p99_ms, max_ms` of the round trip; `jitter_p99_ms`, by how much the time
between two commands differs from 5 ms; `missed`, control periods without a tick, by policy_node's
own count; `unanswered`, messages that no command was computed from, as a newer one was there (they
are in no percentile); `cpu_percent` of policy_node; `adaptations`, and the share of time that they
took, `learning_percent`; `flood_hz`, transitions a second beside the robot's own; `realtime`,
whether policy_node and this process, which plays the robot's driver, ran by SCHED_FIFO. It ends
with exit code 1 where control fell back, or more than one command in a hundred comes from no
measurement as it was sent.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from bench.control_jitter import echo_bundle
from bench.control_jitter.echo_robot import EchoRobot
from bench.control_jitter.loads import ONCE, TURNS, Loads
from bench.faults.nodes import Peer, bring_up, latched, ros_domain, statuses, why_no_nodes
from bench.machine import about
from bench.shipped import SHIPPED
from reptile_agent.onboard.bundle import Bundle, BundleError

RATE_HZ = 200.0
PERIOD_S = 1 / RATE_HZ
SWEEP_S = 4.0
SWEEP_SHIFT = 0.01
"""Share of a period by which messages shift against the ticks from one to the next."""
SHORTEST = 0.03
"""Share of the trips of that stretch that tell when the ticks are."""
SETTLE_S = 0.5
"""After the load has changed, before it counts."""
UNTRACED = 0.01
"""Share of the commands that may come from no measurement as it was sent: a clamped one, after
policy_node was held up for long."""


@dataclass(frozen=True)
class Args:
    """Time the way from joint_states to command, idle, while the robot learns and worse."""

    bundle: Path = SHIPPED
    """Bundle that drives, at 200 Hz; default: the one that the ROS package ships."""
    seconds: float = 60.0
    """For each of the loads."""
    rounds: int = 3
    """Turns that idle and adapting take."""
    realtime_priority: int = 20
    """Of policy_node and of this process; 0: ordinary scheduling."""
    inner_steps: int = 40
    """k of an adaptation; with the gate it fills the time until enough that is new was seen."""
    json: bool = False
    """Print the rows as JSON instead of a table."""
    save: Path | None = None
    """Also write rows, machine and versions into this file."""
    domain: int = 89
    """ROS domain, on this machine only."""


@dataclass
class Seen:
    """What one load did, over all of its turns."""

    round_trips_ms: list[float] = field(default_factory=list)
    intervals_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_s: float = 0.0
    missed: int = 0
    unanswered: int = 0
    learned_ms: list[float] = field(default_factory=list)
    flood_hz: float = 0.0

    def row(self, load: str, realtime: bool) -> dict[str, Any]:
        """As it is printed."""
        trips, uneven = np.array(self.round_trips_ms), np.array(self.intervals_ms)
        p50, p99, most = np.percentile(trips, [50, 99, 100])
        return {
            "load": load,
            "p50_ms": round(float(p50), 3),
            "p99_ms": round(float(p99), 3),
            "max_ms": round(float(most), 3),
            "jitter_p99_ms": round(float(np.percentile(np.abs(uneven - 1e3 * PERIOD_S), 99)), 3),
            "missed": self.missed,
            "unanswered": self.unanswered,
            "messages": len(self.round_trips_ms) + self.unanswered,
            "cpu_percent": round(100 * self.cpu_s / self.seconds, 1),
            "adaptations": len(self.learned_ms),
            "learning_percent": round(0.1 * sum(self.learned_ms) / self.seconds, 1),
            "flood_hz": round(self.flood_hz),
            "realtime": realtime,
        }


def tick_phase(sent: np.ndarray, took: np.ndarray) -> float:
    """When in a period a message must be sent to be just in time for the tick [s].

    Args:
        sent: when messages were that shifted evenly against the ticks [s].
        took: until each was answered [s]. The shortest had next to no wait, and no bad luck.
    """
    in_time = sent[took <= np.quantile(took, SHORTEST)]
    turn = np.angle(np.exp(2j * np.pi * in_time / PERIOD_S).mean())
    return float(PERIOD_S * turn / (2 * np.pi)) % PERIOD_S


class Rig:
    """The processes, and a robot that this one plays.

    Args:
        start: starts a node.
        peer: of theirs, in this process.
        bundle: folder of the echoing bundle.
        columns: what it echoes.
        args: of the run.
    """

    def __init__(
        self,
        start: Callable[..., Any],
        peer: Peer,
        bundle: Path,
        columns: dict[int, int],
        args: Args,
    ) -> None:
        import psutil
        from reptile_agent_msgs.msg import (  # pyright: ignore[reportMissingImports]
            AdaptationStatus,
        )
        from reptile_agent_ros import realtime  # pyright: ignore[reportMissingImports]

        self.peer = peer
        manifest = Bundle.load(bundle).manifest
        self.robot = EchoRobot(peer, manifest.robot, columns, PERIOD_S)
        self.status = statuses(peer)
        self.adaptations = latched(peer, AdaptationStatus, "adapter_node/status")
        # Plans by a model of another rate are often clamped, echoed joints do not follow commands,
        # and a machine may be busy: none of it shall end a measurement.
        node = start(
            "reptile_agent_ros.policy_node",
            bundle=bundle,
            max_clamps=10_000,
            max_frozen=0,
            max_age_s=1.0,
            realtime_priority=args.realtime_priority,
        )
        adapter = start(
            "reptile_agent_ros.adapter_node",
            bundle=bundle,
            adapt_period_s=0.01,
            inner_steps=args.inner_steps,
        )
        self._policy = psutil.Process(node.process.pid)
        self.robot.publish_every(PERIOD_S)
        bring_up(peer, "adapter_node")
        self.loads = Loads(peer, adapter, self.adaptations, manifest)
        self.loads.begin("idle")
        bring_up(peer, "policy_node")
        priority = args.realtime_priority
        self.realtime = priority > 0 and not realtime.schedule(priority)
        peer.wait_for(lambda: len(self.robot.answered_s) > RATE_HZ, "answers", 20.0)

    def align(self) -> None:
        """Have messages go out half a period before the ticks."""
        first = len(self.robot.sent_s)
        self.robot.publish_every(PERIOD_S * (1 + SWEEP_SHIFT))
        self.peer.spin_for(SWEEP_S)
        sent, took = self._trips(first, len(self.robot.sent_s))
        tick_s = tick_phase(sent, took)
        self.robot.publish_every(PERIOD_S, at_s=tick_s - PERIOD_S / 2)
        self.peer.spin_for(SETTLE_S)

    def look(self, load: str, seconds: float, seen: Seen) -> None:
        """Note for so long what is to be seen under a load.

        Raises:
            RuntimeError: control fell back, or too many commands are not to be traced.
            TimeoutError: nothing is learned.
        """
        self.loads.begin(load)
        self.peer.spin_for(SETTLE_S)
        robot, strange = self.robot, self.robot.strange
        first, commands, learned = len(robot.sent_s), len(robot.commands_s), len(self.adaptations)
        missed, cpu_s, began_s = self.status[-1].missed, self._cpu_s(), time.monotonic()
        self.peer.spin_for(seconds)
        last = len(robot.sent_s)
        seen.seconds += time.monotonic() - began_s
        seen.cpu_s += self._cpu_s() - cpu_s
        seen.learned_ms += [a.duration_ms for a in self.adaptations[learned:]]
        seen.intervals_ms += list(1e3 * np.diff(robot.commands_s[commands:]))
        self.peer.spin_for(SETTLE_S)  # The last answers, and the status after them.
        seen.missed += self.status[-1].missed - missed
        strange, commands = robot.strange - strange, len(robot.commands_s) - commands
        if strange > UNTRACED * commands or self.status[-1].mode != "active":
            raise RuntimeError(
                f"{strange} of {commands} commands come from no measurement as it was sent; "
                f"policy_node is {self.status[-1].mode}: {self.status[-1].reason}"
            )
        _, took = self._trips(first, last)
        seen.round_trips_ms += list(1e3 * took)
        seen.unanswered += last - first - took.size

    def _trips(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """When messages were sent and how long their answers took, of those that have one."""
        robot = self.robot
        numbers = [n for n in range(first, last) if n in robot.answered_s]
        sent = np.array([robot.sent_s[n] for n in numbers])
        return sent, np.array([robot.answered_s[n] for n in numbers]) - sent

    def _cpu_s(self) -> float:
        times = self._policy.cpu_times()
        return times.user + times.system


def measure(args: Args, folder: Path) -> list[dict[str, Any]]:
    """The rows.

    Raises:
        BundleError: the bundle is not to be believed.
        ValueError: its robot has too few position servos.
        RuntimeError: control fell back, or too many commands are not to be traced.
        TimeoutError: nothing is answered, or nothing learned.
    """
    columns = echo_bundle.write(args.bundle, folder / "bundle", PERIOD_S)
    seen = {load: Seen() for load in TURNS + ONCE}
    with ros_domain(args.domain, folder) as (start, peer):
        rig = Rig(start, peer, folder / "bundle", columns, args)
        gc.freeze()
        rig.align()
        try:
            for _ in range(args.rounds):
                for load in TURNS:
                    rig.look(load, args.seconds / args.rounds, seen[load])
            for load in ONCE:
                rig.look(load, args.seconds, seen[load])
        finally:
            rig.loads.end()
        seen["flooded"].flood_hz = rig.loads.flood_hz
    return [each.row(load, rig.realtime) for load, each in seen.items()]


def main() -> None:
    """Print the rows."""
    args = tyro.cli(Args)
    why_not = why_no_nodes()
    if why_not:
        sys.exit(why_not)
    if args.rounds < 1 or args.seconds / args.rounds < 1:
        sys.exit(f"{args.seconds:g} s in {args.rounds} rounds; give a round a second at least")
    with tempfile.TemporaryDirectory(prefix="jitter-") as folder:
        try:
            rows = measure(args, Path(folder))
        except (BundleError, ValueError, RuntimeError, TimeoutError) as error:
            logs = [log.read_text(errors="replace") for log in sorted(Path(folder).glob("*.txt"))]
            sys.exit("\n".join([*logs, f"not measured: {error}"]))
    if args.save:
        document = {"about": about(), "seconds": args.seconds, "rows": rows}
        args.save.write_text(json.dumps(document, indent=1) + "\n")
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    table = Table("load", *(row["load"] for row in rows))
    for name in list(rows[0])[1:]:
        table.add_row(name, *(str(row[name]) for row in rows))
    Console().print(table)


if __name__ == "__main__":
    main()

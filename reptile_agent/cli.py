"""The command line `reptile-agent`. Imports a command's module only when it is called."""

from __future__ import annotations

import difflib
import importlib
import os
import sys

from reptile_agent import __version__

COMMANDS = {
    "tasks": "list the task families, what varies in each, and their splits",
    "train": "meta-train a start in simulation",
    "train-on-policy": "meta-train a policy by policy gradients: ProMP, MAML, RL2",
    "evaluate": "judge a trained start on a split, with and without adaptation",
    "report": "write one HTML page about a run: curves, settings, figures, a film of a fault",
    "export": "make a bundle of a trained start: the folder that a robot needs",
    "sign": "sign a bundle, so that a robot can tell who made it",
    "verify": "check a bundle: hashes, operators, signature, and its graphs against torch",
    "inspect": "show what is in a bundle",
    "play": "see a task and a policy: a video, a window, and what came of it",
    "adapt-bag": "adapt from a recorded bag, as the robot did or would have",
    "dataset": "turn recorded bags into data for train",
    "demo": "all of it: train, export, and a ROS 2 robot that breaks and adapts",
}
EXTRAS = {"adapt-bag": "bags", "dataset": "bags", "sign": "sign"}
"""Which extra of the package a command needs; what needs one otherwise needs `train`."""
USAGE = """usage: reptile-agent COMMAND [arguments]

Meta-learn a start in MuJoCo, adapt it on a ROS 2 robot in seconds.

commands, in the order of the work:
{commands}

`reptile-agent COMMAND --help` explains a command and shows every default."""


def main(arguments: list[str] | None = None) -> None:
    """Run a command; a mistake of the user ends in one sentence and exit code 2."""
    # Read when torch is first imported. Threads that spin while they wait make training many
    # times slower on a machine that does anything else beside it (docs/tries.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = sys.argv[1:] if arguments is None else arguments
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        listed = "\n".join(f"  {command:<16} {text}" for command, text in COMMANDS.items())
        print(USAGE.format(commands=listed))
        return
    if name == "--version":
        print(__version__)
        return
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        listed = ", ".join(COMMANDS)
        print(f"reptile-agent: no command '{name}' (there are: {listed}){meant}", file=sys.stderr)
        sys.exit(2)
    sys.exit(_run(name, arguments[1:]))


def _run(name: str, arguments: list[str]) -> int:
    try:
        import tyro

        module = importlib.import_module(f"reptile_agent.commands.{name.replace('-', '_')}")
        from reptile_agent.commands.console import UserError
    except ModuleNotFoundError as error:
        print(
            f"reptile-agent {name}: {error}; install what it needs: pip install "
            f"'reptile-agent[{EXTRAS.get(name, 'train')}]'",
            file=sys.stderr,
        )
        return 2
    command = tyro.cli(module.Command, args=arguments, prog=f"reptile-agent {name}")
    try:
        return command.run()
    except (UserError, LookupError, ValueError, OSError, ModuleNotFoundError) as error:
        # LookupError: a name that is not there; ValueError: a file or value that is not right;
        # ModuleNotFoundError: a package that the family takes its robot from.
        # KeyError quotes its message, and is no message to a user: it is a bug, and shown whole.
        if isinstance(error, KeyError | IndexError):
            raise
        print(f"reptile-agent {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"reptile-agent {name}: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    main()

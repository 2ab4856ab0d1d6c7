"""Launch files: they load, and say what each argument is for.

ROS's own `launch` comes with a ROS installation only. Where there is none, a stand-in that accepts
everything takes its place; it finds what is missing from a file, not what ROS would refuse.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

LAUNCH_FILES = sorted((Path(__file__).parents[1] / "launch").glob("*.launch.py"))
STOOD_IN = ("launch", "launch_ros", "lifecycle_msgs")


def _has_real_launch() -> bool:
    # Our own folder launch/ would be found too, as a namespace package: that one has no origin.
    specs = [importlib.util.find_spec(name) for name in STOOD_IN]
    return all(spec is not None and spec.origin is not None for spec in specs)


class AnyAttribute(type):
    """Gives a class any attribute, for constants like Transition.TRANSITION_ACTIVATE."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class Anything(metaclass=AnyAttribute):
    """Takes any arguments and keeps them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs


class StandIn(types.ModuleType):
    """A module that has any class; functions pass as classes too."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Anything,), {})


class StandInFinder:
    """Finds the packages of STOOD_IN and whatever is imported from them."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] in STOOD_IN:
            return importlib.util.spec_from_loader(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""


@pytest.fixture(
    params=[
        pytest.param(
            "real launch",
            marks=pytest.mark.skipif(
                not _has_real_launch(),
                reason="ROS's launch and launch_ros are not installed; a stand-in is used alone",
            ),
        ),
        "stand-in",
    ]
)
def launch_library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which launch the files are loaded with."""
    if request.param == "stand-in":
        for name in [n for n in sys.modules if n.partition(".")[0] in STOOD_IN]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(sys, "meta_path", [StandInFinder(), *sys.meta_path])
    return request.param


def evaluate(path: Path, library: str) -> Any:
    """The launch description that a launch file makes."""
    before = set(sys.modules)
    spec = importlib.util.spec_from_file_location("launch_file_under_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return module.generate_launch_description()
    finally:
        if library == "stand-in":
            for name in set(sys.modules) - before:
                if name.partition(".")[0] in STOOD_IN:
                    del sys.modules[name]


def describe(path: Path, library: str) -> list[tuple[str, str]]:
    """Name and description of each argument that a launch file declares, in its order."""
    description = evaluate(path, library)
    if library == "real launch":
        return [(a.name, a.description) for a in description.get_launch_arguments()]
    declared = [e for e in description.args[0] if type(e).__name__ == "DeclareLaunchArgument"]
    return [(e.args[0], e.kwargs.get("description", "")) for e in declared]


def parts(thing: Any) -> Iterator[Any]:
    """A description of the stand-in and all that it is made of."""
    yield thing
    inner: list[Any] = []
    if isinstance(thing, Anything):
        inner = [*thing.args, *thing.kwargs.values()]
    elif isinstance(thing, list | tuple | dict):
        inner = list(thing.values() if isinstance(thing, dict) else thing)
    for part in inner:
        yield from parts(part)


def commands(path: Path) -> list[str]:
    """The commands that a launch file runs; `$(name)` stands for an argument's value."""
    texts = []
    for part in parts(evaluate(path, "stand-in")):
        if type(part).__name__ == "ExecuteProcess":
            words = [word if isinstance(word, list) else [word] for word in part.kwargs["cmd"]]
            texts.append(" ".join("".join(map(_text, word)) for word in words))
    return texts


def _text(part: Any) -> str:
    return part if isinstance(part, str) else f"$({part.args[0]})"


def told(part: Any, arguments: dict[str, str]) -> Any:
    """What a substitution of the stand-in comes to, as ROS's own does."""
    if isinstance(part, list | tuple):
        return [told(each, arguments) for each in part]
    if isinstance(part, dict):
        return {name: told(each, arguments) for name, each in part.items()}
    if not isinstance(part, Anything):
        return part
    inner = told(part.args, arguments)
    match type(part).__name__:
        case "LaunchConfiguration":
            return arguments[inner[0]]
        case "EqualsSubstitution":
            return str(inner[0] == inner[1]).lower()
        case "IfElseSubstitution":
            return told(part.kwargs["if_value" if inner[0] == "true" else "else_value"], arguments)
        case "PathJoinSubstitution":
            return "/".join(inner[0])
        case "FindPackageShare":
            return f"share/{inner[0]}"
        case "ParameterValue":
            kind = part.kwargs["value_type"]
            return inner[0] == "true" if kind is bool else kind(inner[0])
    raise AssertionError(f"nobody told the tests what {type(part).__name__} comes to")


def started(path: Path, **given: str) -> dict[str, dict[str, Any]]:
    """Keywords of each node that a launch file starts with these arguments, by executable."""
    (entities,) = evaluate(path, "stand-in").args
    declared = [part for part in entities if type(part).__name__ == "DeclareLaunchArgument"]
    assert given.keys() <= {part.args[0] for part in declared}
    arguments = {
        part.args[0]: told(part.kwargs["default_value"], {})
        for part in declared
        if "default_value" in part.kwargs
    }
    return dict(_nodes(entities, arguments | given))


def _nodes(entities: list[Any], arguments: dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in entities:
        condition = part.kwargs.get("condition")
        if condition is not None and told(condition.args[0], arguments) != "true":
            continue
        if type(part).__name__ == "GroupAction":
            yield from _nodes(part.args[0], arguments)
        elif type(part).__name__ in ("Node", "LifecycleNode"):
            names = ("namespace", "parameters", "ros_arguments")
            yield (
                part.kwargs["executable"],
                {name: told(part.kwargs[name], arguments) for name in names},
            )


def launch_file(name: str) -> Path:
    """One of ours."""
    return next(path for path in LAUNCH_FILES if path.name == f"{name}.launch.py")


def test_there_are_launch_files() -> None:
    names = [path.name.partition(".")[0] for path in LAUNCH_FILES]
    assert names == ["adapt", "record", "replay"]


def test_the_folder_does_not_shadow_the_launch_of_ros() -> None:
    assert not (Path(__file__).parents[1] / "launch" / "__init__.py").exists()


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_every_argument_is_described(path: Path, launch_library: str) -> None:
    arguments = describe(path, launch_library)
    assert arguments
    for name, description in arguments:
        sentence = description.partition(" Valid choices are: ")[0]  # added by launch
        assert sentence.endswith("."), f"argument '{name}' of {path.name} needs a sentence"
        assert len(sentence.split()) > 3, f"argument '{name}' of {path.name} says too little"


def test_adapt_takes_what_the_readme_and_the_demo_name(launch_library: str) -> None:
    assert [name for name, _ in describe(launch_file("adapt"), launch_library)] == [
        "bundle",
        "robot",
        "params_file",
        "namespace",
        "use_sim_time",
        "adapt",
        "reference",
        "dry_run",
        "exit_with_policy",
        "log_level",
    ]


@pytest.mark.parametrize("launch_library", ["stand-in"], indirect=True)
@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_every_argument_is_used_and_no_other(path: Path, launch_library: str) -> None:
    found = list(parts(evaluate(path, launch_library)))
    used = {part.args[0] for part in found if type(part).__name__ == "LaunchConfiguration"}
    assert used == {name for name, _ in describe(path, launch_library)}


@pytest.mark.parametrize("launch_library", ["stand-in"], indirect=True)
def test_each_argument_of_adapt_does_what_it_says(launch_library: str) -> None:
    path, every = launch_file("adapt"), ["mujoco_robot", "policy_node", "adapter_node"]
    usual = started(path)
    assert list(usual) == [*every, "reference_node"]
    assert list(started(path, robot="none")) == [*every[1:], "reference_node"]
    assert list(started(path, adapt="false")) == [*every[:2], "reference_node"]
    assert list(started(path, reference="false")) == every

    theirs, ours = "share/reptile_agent/config/arm.yaml", "/etc/mine.yaml"
    for name, node in usual.items():
        assert node["namespace"] == ""
        assert node["parameters"][0] == theirs
        assert {"use_sim_time": False} in node["parameters"]
        assert ({"bundle": ""} in node["parameters"]) == (name in every[1:])
        assert node["ros_arguments"][1] == "info"
    given = {"namespace": "left", "params_file": ours, "use_sim_time": "true", "bundle": "/b"}
    for name, node in started(path, log_level="debug", **given).items():
        assert node["namespace"] == "left"
        assert node["parameters"][0] == ours
        assert theirs not in node["parameters"]
        assert {"use_sim_time": True} in node["parameters"]
        assert ({"bundle": "/b"} in node["parameters"]) == (name in every[1:])
        assert node["ros_arguments"][1] == "debug"

    dry = "share/reptile_agent/config/dry_run.yaml"
    for value in ("true", "false"):
        nodes = started(path, dry_run=value, params_file=ours)
        assert nodes["policy_node"]["parameters"][1] == (dry if value == "true" else ours)
        assert not any(dry in nodes[name]["parameters"] for name in nodes if name != "policy_node")


@pytest.mark.parametrize("launch_library", ["stand-in"], indirect=True)
def test_replay_gives_its_adapter_what_it_is_told(launch_library: str) -> None:
    given = {"bag": "/bag", "namespace": "left", "params_file": "/p.yaml", "bundle": "/b"}
    nodes = started(launch_file("replay"), log_level="warn", use_sim_time="true", **given)
    assert list(nodes) == ["adapter_node"]
    (node,) = nodes.values()
    assert node["namespace"] == "left"
    assert node["parameters"] == ["/p.yaml", {"use_sim_time": True}, {"bundle": "/b"}]
    assert node["ros_arguments"][1] == "warn"


@pytest.mark.parametrize("launch_library", ["stand-in"], indirect=True)
def test_record_records_what_adapt_bag_reads_in_the_nodes_namespace(launch_library: str) -> None:
    said = {"policy_node": ("transition", "status"), "adapter_node": ("status", "parameters")}
    topics = [f"$(namespace)/{node}/{name}" for node, names in said.items() for name in names]
    assert commands(launch_file("record")) == [
        f"ros2 bag record --storage mcap --output $(out) --topics {' '.join(topics)}"
    ]


@pytest.mark.parametrize("launch_library", ["stand-in"], indirect=True)
def test_replay_plays_to_an_adapter_that_is_active(launch_library: str) -> None:
    path = launch_file("replay")
    topics = "$(namespace)/policy_node/transition $(namespace)/policy_node/status"
    assert commands(path) == [f"ros2 bag play $(bag) --clock 40 --rate $(rate) --topics {topics}"]
    found = list(parts(evaluate(path, launch_library)))
    (plays,) = [
        part
        for part in found
        if type(part).__name__ == "OnStateTransition" and part.kwargs["goal_state"] == "active"
    ]
    (process,) = plays.kwargs["entities"]
    assert type(process).__name__ == "ExecuteProcess"
    assert plays.kwargs["target_lifecycle_node"].kwargs["executable"] == "adapter_node"


class Context:
    """Of a launch, as far as our functions ask it."""

    is_shutdown = False


@pytest.mark.parametrize("launch_library", ["stand-in"], indirect=True)
def test_functions_of_adapt_stop_a_launch(launch_library: str, tmp_path: Path, monkeypatch) -> None:
    functions = {
        part.kwargs["function"].__name__: part.kwargs["function"]
        for part in parts(evaluate(launch_file("adapt"), launch_library))
        if type(part).__name__ == "OpaqueFunction"
    }
    assert functions.keys() == {"check_params_file", "end_launch"}
    with pytest.raises(RuntimeError, match="policy_node ended"):
        functions["end_launch"](Context())
    monkeypatch.setattr(Context, "is_shutdown", True)
    functions["end_launch"](Context())

    check = functions["check_params_file"]
    there = tmp_path / "mine.yaml"
    there.touch()
    given = types.SimpleNamespace(perform=lambda _: str(there))
    monkeypatch.setitem(check.__globals__, "LaunchConfiguration", lambda _: given)
    check(Context())
    there.unlink()
    with pytest.raises(FileNotFoundError, match=r"params_file: there is no file .*mine\.yaml"):
        check(Context())


def test_replay_takes_what_its_adapter_takes(launch_library: str) -> None:
    adapt = dict(describe(launch_file("adapt"), launch_library))
    replay = dict(describe(launch_file("replay"), launch_library))
    assert set(replay) - set(adapt) == {"bag", "rate"}
    assert set(adapt) - set(replay) == {"robot", "adapt", "reference", "dry_run"} | {
        "exit_with_policy"
    }

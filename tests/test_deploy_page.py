"""docs/deploy.md names nothing that is not there: parameters, topics, arguments, commands, files.

Every span in backticks, and every command and parameters file in its blocks, has to be known: to
the code, to the SROS2 policies (which tests/ros/test_security_policies.py compares with what
running nodes open), or, for what is other people's, to FOREIGN below.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path

import pytest
import yaml

from reptile_agent.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/deploy.md"
ROS = ROOT / "ros2_ws/src"
CONFIG = ROS / "reptile_agent/config"
DECLARED_IN = {
    "policy_node": ("declare_bundle", "declare_policy", "declare_motion"),
    "adapter_node": ("declare_bundle", "declare_adapter"),
}
FOREIGN = set(
    "/etc/reptile-agent.yaml /var/lib/reptile-agent private.pem public.pem joints "
    "cmd_vel_timeout ~/cmd_vel data taskset train linear_x angular_z x y yaw".split()
)
"""Of ros2_control, of the operating system, or of the robot: not ours to keep."""
FOREIGN_TOOLS = set(
    "kill echo sudo vcgencmd export systemctl ln openssl pip colcon source python3 cd rsync ssh "
    "systemd-analyze journalctl".split()
)


def blocks(language: str) -> list[str]:
    """The page's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.S | re.M)


def spans() -> list[str]:
    """What the page names in backticks, outside of blocks."""
    text = re.sub(r"^```.*?^```", "", PAGE.read_text(), flags=re.S | re.M)
    return sorted({re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", text)})


def commands() -> list[list[str]]:
    """The commands of the page: lines of its bash blocks, and spans that call one."""
    joined = "\n".join(blocks("bash")).replace("\\\n", " ")
    found, pending = [], ""
    for line in joined.splitlines():
        pending += line + "\n"
        if pending.count('"') % 2 == 0:
            found += filter(None, [shlex.split(pending, comments=True)])
            pending = ""
    assert not pending
    return [*found, *(shlex.split(span) for span in spans() if is_command(span))]


def is_command(span: str) -> bool:
    """Whether a span in backticks is a command; not a value, an option or a list."""
    return " " in span and ": " not in span and span[0] not in "[-"


def declared(function: str) -> set[str]:
    """Parameters that a function of settings.py declares."""
    text = (ROS / "reptile_agent/reptile_agent_ros/settings.py").read_text()
    body = re.search(rf"^def {function}\(.*?(?=^def |\Z)", text, re.S | re.M)
    assert body is not None
    return set(re.findall(r"declare\(\s*node,\s*'(\w+)'", body[0]))


@cache
def parameters(node: str) -> set[str]:
    """All parameters of a node of ours."""
    if node in DECLARED_IN:
        return set().union(*map(declared, DECLARED_IN[node]))
    assert node == "reference_node"
    text = (ROS / f"reptile_agent/reptile_agent_ros/{node}.py").read_text()
    return set(re.findall(r"declare\(self, '(\w+)'", text))


@cache
def live_parameters() -> set[str]:
    """Parameters that may change while a node runs."""
    text = (ROS / "reptile_agent/reptile_agent_ros/settings.py").read_text()
    live = [part for part in text.split("\n    declare(") if "live=True" in part]
    return {re.findall(r"'(\w+)'", part)[0] for part in live}


@cache
def launch_arguments() -> set[str]:
    text = (ROOT / "launch/adapt.launch.py").read_text()
    return set(re.findall(r'DeclareLaunchArgument\(\s*"(\w+)"', text))


@cache
def ros_names() -> dict[str, set[str]]:
    """By kind (topic, service, action): every name of our nodes, absolute."""
    found: dict[str, set[str]] = {"topic": set(), "service": set(), "action": set()}
    root = ET.parse(CONFIG / "sros2/policies.xml").getroot()
    for profile in root.iter("profile"):
        for kind, names in found.items():
            for element in profile.iter(kind):
                name = str(element.text).replace("~", profile.attrib["node"], 1)
                names.add(name if name.startswith("/") else f"/{name}")
    return found


@cache
def fields() -> set[str]:
    """Fields and constants' values of our messages."""
    text = "\n".join(p.read_text() for p in (ROS / "reptile_agent_msgs").glob("*/*.[mas]*"))
    names = re.findall(r"^[\w/]+(?:\[\])? (\w+)$", text, re.M)
    return {*names, *re.findall(r"^string [A-Z_]+=(\w+)$", text, re.M)}


def is_field(span: str) -> bool:
    """Whether it is a field of an Imu, an Odometry or a Twist that a signal can lie in."""
    words = (ROS / "reptile_agent/reptile_agent_ros/motion.py").read_text()
    return "." in span and set(span.split(".")) <= set(re.findall(r"\w+", words)) | set("xyzw")


def is_quality(span: str) -> bool:
    """Whether it is a parameter by which a quality of service of a topic of ours is overridden."""
    found = re.fullmatch(
        r"qos_overrides\.(/[\w/]+)\.(publisher|subscription)\.(depth|reliability)", span
    )
    return found is not None and found[1] in ros_names()["topic"]


@cache
def verdicts() -> set[str]:
    """Words that the code can give as a verdict, or as a reason to stop: its quoted strings."""
    sources = ("gate.py", "trust_region.py", "onboard/adapter.py", "onboard/inner_steps.py")
    text = "\n".join((ROOT / "reptile_agent" / name).read_text() for name in sources)
    text += "\n".join(p.read_text() for p in (ROS / "reptile_agent/reptile_agent_ros").glob("ad*"))
    return set(re.findall(r"""["'](\w+)["']""", text))


@cache
def diagnosed() -> set[str]:
    """Names of statuses on /diagnostics, as in the root namespace, and of their figures."""
    found = set()
    for node, part in (("policy_node", "control"), ("adapter_node", "adaptation")):
        text = (ROS / f"reptile_agent/reptile_agent_ros/{part}_diagnostics.py").read_text()
        assert f"Diagnostics(node, '{part}', " in text
        found |= {f"{node}: {part}", *re.findall(r"'(\w+)[' ]", text)}
    return found


def is_known(span: str) -> bool:
    """Whether something of ours, or of FOREIGN, is called so."""
    if span.removeprefix("arm_1/") in diagnosed():
        return True
    name, equals, _ = span.partition(":=")
    if equals:
        return name in launch_arguments()
    name, colon, value = span.partition(": ")
    if colon:
        values = {"forward", "trajectory", "twist", "twist_stamped", "true", "false"}
        return name in parameters("policy_node") and value in values
    ours = set().union(*ros_names().values())
    private = {n.replace(f"/{node}/", "~/", 1) for n in ours for node in DECLARED_IN}
    nodes = {p.attrib["node"] for p in ET.parse(CONFIG / "sros2/policies.xml").iter("profile")}
    enclaves = {e.attrib["path"] for e in ET.parse(CONFIG / "sros2/policies.xml").iter("enclave")}
    known = {*FOREIGN, *ours, *private, *nodes, *enclaves, *fields(), *verdicts(), *COMMANDS}
    known |= launch_arguments() | {n.removeprefix("/") for n in ours} | {"use_sim_time", "max_rate"}
    known |= {p for n in (*DECLARED_IN, "reference_node") for p in parameters(n)}
    known |= {path.name for path in (ROOT / "sim/families").iterdir() if path.is_dir()}
    return span in known or is_field(span) or is_quality(span) or (ROOT / span).is_file()


@pytest.mark.parametrize("span", spans())
def test_what_is_in_backticks_is_there(span):
    if is_command(span) or re.fullmatch(r"--.*|\[.*\]|[A-Z_]+=\w+", span):
        return  # Checked below; an option, a list, a setting of the environment.
    assert is_known(span)


def test_every_verdict_of_the_gate_is_explained():
    word = re.search(
        r'word: str\n    """(.*?)"""', (ROOT / "reptile_agent/gate.py").read_text(), re.S
    )
    assert word is not None
    words = set(re.findall(r"\w+", word[1])) & verdicts()
    assert {"accepted", "diverged", "forgets", "plans_worse"} <= words
    rows = "".join(re.findall(r"^\| (`.*?) \|", PAGE.read_text(), re.M))
    assert {w for w in words if f"`{w}`" not in rows} == set()


def check_launch(words: list[str]) -> None:
    assert words[2] == "reptile_agent"
    assert (ROOT / "launch" / words[3]).is_file()
    given = {word.partition(":=")[0] for word in words[4:] if ":=" in word}
    assert given <= launch_arguments(), given - launch_arguments()


def check_ros2(words: list[str]) -> None:
    """A call of `ros2` names topics, services, nodes and parameters of ours."""
    rest = [word for word in words[3:] if not word.startswith("--")]
    names = ros_names()
    match words[1:3]:
        case ["launch", _]:
            check_launch(words)
        case ["topic", _]:
            assert rest[0] in names["topic"], rest[0]
        case ["service", "call"]:
            assert rest[0] in names["service"], rest[0]
        case ["lifecycle", "set"]:
            assert f"{rest[0]}/change_state" in names["service"], rest[0]
        case ["param", "describe"]:
            assert rest[1] in parameters(rest[0].removeprefix("/")), rest
        case ["param", "set"]:
            assert rest[1] in parameters(rest[0].removeprefix("/")), rest
            assert rest[1] in live_parameters(), f"{rest[1]} is read_only"
        case ["pkg" | "security" | "run", _]:
            for word in re.findall(r"reptile_agent\)/([\w/.-]+)", " ".join(words)):
                assert (ROS / "reptile_agent" / word).exists(), word
        case _:
            assert words == ["ros2", "launch"]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_name_what_is_there(words):
    match words:
        case ["ros2", *_]:
            check_ros2(words)
        case ["python", "-m", module, *_]:
            assert (ROOT / module.replace(".", "/") / "__main__.py").is_file() or (
                ROOT / f"{module.replace('.', '/')}.py"
            ).is_file()
        case ["reptile-agent", "--version"]:
            assert COMMANDS
        case ["reptile-agent", name, *arguments]:
            command = [sys.executable, "-m", "reptile_agent.cli", name, "--help"]
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            assert {a for a in arguments if a.startswith("--")} <= set(re.findall(r"--\w+", text))
        case [tool, *_]:
            assert tool in FOREIGN_TOOLS, words


def test_the_parameters_file_on_the_page_holds_declared_parameters():
    ours = [b for b in blocks("yaml") if "/**/" in b]
    assert len(ours) == 1
    document = yaml.safe_load(ours[0].replace("# joint_map", "joint_map"))
    assert list(document) == ["/**/policy_node", "/**/adapter_node", "/**/reference_node"]
    for key, value in document.items():
        node = key.removeprefix("/**/")
        assert set(value["ros__parameters"]) <= parameters(node), node


def test_the_file_of_the_dry_run_holds_what_the_launch_argument_promises():
    document = yaml.safe_load((CONFIG / "dry_run.yaml").read_text())
    assert document == {"/**/policy_node": {"ros__parameters": {"dry_run": True}}}
    assert "dry_run" in parameters("policy_node")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit_is_one_that_systemd_takes():
    unit = CONFIG / "systemd/reptile-agent.service"
    found = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stderr) == (0, "")


def test_the_unit_begins_with_a_dry_run_and_its_command_is_whole():
    lines = (CONFIG / "systemd/reptile-agent.env").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    arguments = settings["LAUNCH_ARGUMENTS"].split()
    check_launch(["ros2", "launch", "reptile_agent", "adapt.launch.py", *arguments])
    assert {"robot:=none", "reference:=false", "dry_run:=true", "adapt:=false"} <= set(arguments)
    unit = (CONFIG / "systemd/reptile-agent.service").read_text()
    start = re.search(r"^ExecStart=/bin/bash -c '(.*)'$", unit, re.M)
    assert start is not None
    used = set(re.findall(r"\$\$(\w+)", start[1]))
    assert used == set(settings) - {"ROS_DOMAIN_ID"}
    assert "exec ros2 launch reptile_agent adapt.launch.py" in start[1]

"""Parameters of mujoco_robot. All are read once at the start, hence read_only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter
from reptile_agent.task import Task

COMMAND_INTERFACES = ('forward', 'trajectory')


@dataclass(frozen=True)
class Parameters:
    """What mujoco_robot was started with."""

    family: str
    """Task family that the robot comes from."""
    task: Task
    """Variant to start as."""
    seed: int
    """Of the initial state."""
    publish_rate_hz: float
    """Of joint_states."""
    command_interface: str
    """One of COMMAND_INTERFACES."""
    command_joints: list[str]
    """Order of a forward command; empty: the order of the robot's actions."""
    command_timeout_s: float
    """Age at which a command no longer counts."""


def declare(node: Node) -> Parameters:
    """Declare and read all parameters.

    Raises:
        ValueError: values that do not fit together.
    """
    family = _declare(node, 'family', 'arm', 'Task family that the robot comes from.')
    names = _declare(
        node,
        'task_names',
        Parameter.Type.STRING_ARRAY,
        'Variations to start with, as the family describes them; none: the robot as built.',
    )
    values = _declare(
        node,
        'task_values',
        Parameter.Type.DOUBLE_ARRAY,
        'Value of each of task_names, in the unit that the family gives.',
    )
    if len(names) != len(values):
        raise ValueError(
            f'task_names has {len(names)} entries, task_values {len(values)}; give one each'
        )
    command_interface = _declare(
        node,
        'command_interface',
        'forward',
        "'forward': forward_command_controller/commands; "
        "'trajectory': joint_trajectory_controller/joint_trajectory.",
    )
    if command_interface not in COMMAND_INTERFACES:
        raise ValueError(
            f"command_interface is '{command_interface}'; set it to one of "
            f'{", ".join(COMMAND_INTERFACES)}'
        )
    return Parameters(
        family=family,
        task=dict(zip(names, values)),
        seed=_declare(
            node,
            'seed',
            0,
            'Of the initial state.',
            integer_range=[IntegerRange(from_value=0, to_value=2**31 - 1, step=1)],
        ),
        publish_rate_hz=_declare(
            node,
            'publish_rate_hz',
            100.0,
            'Rate of joint_states [Hz]; a whole number of physics steps must fit between two.',
            floating_point_range=[FloatingPointRange(from_value=1.0, to_value=1000.0)],
        ),
        command_interface=command_interface,
        command_joints=_declare(
            node,
            'command_joints',
            Parameter.Type.STRING_ARRAY,
            "Order of the joints in a forward command; none: the order of the robot's actions.",
        ),
        command_timeout_s=_declare(
            node,
            'command_timeout_s',
            0.5,
            'With no command for so long the robot holds its position [s].',
            floating_point_range=[FloatingPointRange(from_value=0.01, to_value=60.0)],
        ),
    )


def _declare(node: Node, name: str, default: Any, description: str, **descriptor: Any) -> Any:
    """Declare one parameter and read it; a default that is a type means: empty unless set."""
    descriptor = ParameterDescriptor(description=description, read_only=True, **descriptor)
    node.declare_parameter(name, default, descriptor)
    if isinstance(default, Parameter.Type):
        return list(node.get_parameter_or(name, Parameter(name, default, [])).value)
    return node.get_parameter(name).value

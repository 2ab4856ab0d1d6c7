"""Parameters with a description, a range where they have one, and read_only unless said."""

from __future__ import annotations

from typing import Any

from ament_index_python.packages import get_package_share_directory
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter


def declare(
    node: Node,
    name: str,
    default: Any,
    description: str,
    *,
    between: tuple[float, float] | None = None,
    live: bool = False,
) -> None:
    """Declare one parameter.

    Args:
        node: whose parameter it is.
        name: of the parameter.
        default: value, or Parameter.Type for one that is empty unless set.
        description: a sentence with the unit.
        between: smallest and largest value allowed.
        live: whether it may be set while the node runs.
    """
    descriptor = ParameterDescriptor(description=description, read_only=not live)
    if between is not None and isinstance(default, int):
        low, high = between
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    elif between is not None:
        low, high = between
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    node.declare_parameter(name, default, descriptor)


def value(node: Node, name: str) -> Any:
    """A parameter's value; an empty list for an array that was not set."""
    found = node.get_parameter_or(name, Parameter(name, value=[])).value
    return list(found) if not isinstance(found, str | bool | int | float) else found


def bundle_folder(given: str) -> str:
    """The folder of the bundle; the one that the package ships where none is given."""
    return given or f'{get_package_share_directory("reptile_agent")}/bundle/arm'

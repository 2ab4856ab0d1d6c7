"""The nodes' parameters: each with a description, a range where it has one, and read_only."""

from __future__ import annotations

from collections.abc import Mapping
import difflib
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter
from reptile_agent.adaptation import ADAPT_PERIOD_S
from reptile_agent.onboard.bundle import Bundle
from reptile_agent.onboard.controller import Controller
from reptile_agent.onboard.envelope import EnvelopeConfig
from reptile_agent.probation import ProbationConfig


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
        live: whether it may change while the node runs; all others are read_only.
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


def refuse_unknown(node: Node) -> None:
    """Refuse misspelt parameters: instead of a `bundle_keys`, nobody's signature would be asked.

    What is like none that the node has is another node's, from a `/**` of a file: it is logged.

    Raises:
        ValueError: names them, and what was meant.
    """
    given = node._parameter_overrides  # rclpy has no other way to ask
    has = [name for name in node._parameters if not name.startswith('qos_overrides.')]
    unknown = [
        name
        for name in sorted(given)
        if not (node.has_parameter(name) or name.startswith('qos_overrides.'))
    ]
    near = {name: difflib.get_close_matches(name, has, n=2) for name in unknown}
    meant = [f"'{name}' (nearest: {', '.join(found)})" for name, found in near.items() if found]
    if meant:
        raise ValueError(
            f'{node.get_name()} has no parameter {", ".join(meant)}; see params_file, and '
            f'ros2 param list {node.get_fully_qualified_name()} of a running one'
        )
    if unknown:
        node.get_logger().warning(f'has no parameter {", ".join(unknown)}: left alone')


def bundle_folder(given: str) -> str:
    """The folder of the bundle; the one that the package ships where none is given."""
    return given or f'{get_package_share_directory("reptile_agent")}/bundle/arm'


def declare_bundle(node: Node) -> None:
    """Parameters that say which bundle, and who must have signed it."""
    declare(node, 'bundle', '', 'Folder of the bundle; empty: the one that the package ships.')
    declare(
        node,
        'bundle_key',
        '',
        'File of the public key that the bundle must be signed for (reptile-agent sign); empty: '
        'signatures are not looked at.',
    )
    declare(
        node,
        'bundles_folder',
        '',
        'Folder of the bundles that ~/load_bundle may load by name, absolute; empty: none.',
    )


def load_bundle(node: Node) -> Bundle:
    """The bundle that a node's parameters name.

    Raises:
        BundleError: it is not to be believed.
    """
    key = value(node, 'bundle_key')
    return Bundle.load(bundle_folder(value(node, 'bundle')), Path(key) if key else None)


def declare_policy(node: Node) -> None:
    """Parameters of policy_node."""
    declare_bundle(node)
    declare_motion(node)
    declare(
        node,
        'command_interface',
        'forward',
        "'forward': Float64MultiArray on forward_command_controller/commands; "
        "'trajectory': JointTrajectory on joint_trajectory_controller/joint_trajectory; "
        "'twist', 'twist_stamped': Twist or TwistStamped on cmd_vel, by command_twist.",
    )
    declare(
        node,
        'command_joints',
        Parameter.Type.STRING_ARRAY,
        "Order of the joints in a forward command, the bundle's names; none: the bundle's.",
    )
    declare(
        node,
        'dry_run',
        False,
        'Do everything but command the robot, and publish what would be sent on ~/dry_run; '
        'transitions are not published: nothing can be learned from them.',
    )
    declare(
        node,
        'introspection',
        False,
        'Publish the insides of every control period on ~/introspection/names and '
        '~/introspection/values.',
    )
    declare(
        node,
        'joint_map',
        Parameter.Type.STRING_ARRAY,
        "Where the robot names a joint otherwise than the bundle: 'bundle_name=robot_name'.",
    )
    declare(
        node,
        'strict_joints',
        True,
        "Refuse joint_states that do not name the bundle's joints, all and no others; false: "
        'ignore others, and let messages hold some joints each.',
    )
    declare(
        node,
        'realtime_priority',
        20,
        'Of all threads of this process while it is active, by SCHED_FIFO, where the user may; 0: '
        'ordinary scheduling.',
        between=(0, 49),
    )
    declare(
        node,
        'max_age_s',
        0.0,
        'Oldest measurement that is acted upon [s]; beyond it the robot falls back; '
        '0: three control periods, and no less than 0.05.',
        between=(0.0, 2.0),
    )
    declare(
        node,
        'max_frozen',
        -1,
        'Samples in which a measurement may stay the same to the bit while its joint is commanded '
        'elsewhere; 0: any number; -1: those of half a second, and no fewer than 10.',
        between=(-1, 100_000),
    )
    declare(
        node,
        'frozen_share',
        0.1,
        'A command so far from what it was should move its joint, as a share of its range.',
        between=(0.001, 1.0),
    )
    declare(
        node,
        'fallback',
        'hold',
        "What drives the robot when the policy may not: 'hold', 'damp' (efforts work against the "
        "motion), or the name of an entry point of the group 'reptile_agent.fallbacks'.",
    )
    declare(
        node,
        'max_clamps',
        25,
        'Control periods in a row in which commands may be limited before the robot falls back.',
        between=(1, 10_000),
    )
    declare(
        node,
        'probation_margin',
        0.5,
        'Excess of the tracking error, as a share of what it was, at which new parameters '
        'are rolled back.',
        between=(0.0, 100.0),
    )
    declare(
        node,
        'probation_floor',
        0.01,
        'Excess of the tracking error that is always allowed [unit of the references].',
        between=(0.0, 10.0),
    )
    declare(
        node,
        'probation_reward_margin',
        ProbationConfig.reward_margin,
        'Fall of the reward, in standard deviations of what it was, at which new parameters are '
        'rolled back; only where the bundle has a reward.onnx.',
        between=(0.0, 100.0),
    )
    declare(node, 'seed', 0, "Of the planner's noise.", between=(0, 2**31 - 1))


def declare_motion(node: Node) -> None:
    """Parameters of policy_node for what is no joint: Imu, Odometry and Twist."""
    declare(
        node,
        'imu_signals',
        Parameter.Type.STRING_ARRAY,
        "Signals taken from sensor_msgs/Imu on imu: 'yaw.velocity=angular_velocity.z'; fields: "
        'angular_velocity and linear_acceleration .x .y .z, along the axes of header.frame_id; '
        'orientation .roll .pitch .yaw .x .y .z .w.',
    )
    declare(
        node,
        'odometry_signals',
        Parameter.Type.STRING_ARRAY,
        "Signals that come from nav_msgs/Odometry on odom: 'x.position=pose.position.x'. Fields: "
        'pose.position .x .y .z and pose.orientation .roll .pitch .yaw .x .y .z .w in '
        'header.frame_id (the world); twist.linear and twist.angular .x .y .z in child_frame_id '
        '(the body); twist_w.linear and twist_w.angular: the same along the axes of '
        'header.frame_id.',
    )
    declare(
        node,
        'reference_interface',
        'trajectory',
        "What is on reference: 'trajectory': JointTrajectory, positions; 'twist', "
        "'twist_stamped': Twist or TwistStamped, velocities, by reference_twist.",
    )
    declare(
        node,
        'reference_twist',
        Parameter.Type.STRING_ARRAY,
        "Field of the Twist for each signal to follow: 'x.velocity=linear.x'; other fields are "
        'ignored.',
    )
    declare(
        node,
        'reference_timeout_s',
        0.5,
        'A Twist to follow counts so long; then the robot is to stand still [s].',
        between=(0.01, 10.0),
    )
    declare(
        node,
        'command_twist',
        Parameter.Type.STRING_ARRAY,
        "Field of the Twist for each action: 'linear_x.velocity=linear.x'; other fields are zero.",
    )
    declare(node, 'command_frame', 'base_link', 'frame_id of commands by twist_stamped.')


def envelope_config(node: Node, sources: Mapping[str, str]) -> EnvelopeConfig:
    """The envelope that policy_node's parameters ask for.

    Args:
        node: whose parameters they are.
        sources: where signals are measured, for reasons; by signal.

    Raises:
        ValueError: a value is out of its range.
    """
    max_age_s, max_frozen = value(node, 'max_age_s'), value(node, 'max_frozen')
    if value(node, 'dry_run'):
        max_frozen = 0  # nobody moves the joints, so none is frozen for standing still
    return EnvelopeConfig(
        max_age_s=max_age_s or None,
        max_clamps=value(node, 'max_clamps'),
        max_frozen=None if max_frozen < 0 else max_frozen,
        frozen_share=value(node, 'frozen_share'),
        fallback=value(node, 'fallback'),
        sources=sources,
    )


def probation_config(node: Node) -> ProbationConfig:
    """How policy_node's parameters ask for new parameters of the policy to be watched."""
    return ProbationConfig(
        margin=value(node, 'probation_margin'),
        floor=value(node, 'probation_floor'),
        reward_margin=value(node, 'probation_reward_margin'),
    )


def make_controller(node: Node, bundle: Bundle, sources: Mapping[str, str]) -> Controller:
    """What drives the robot with a bundle, as policy_node's parameters ask for.

    Args:
        node: whose parameters they are.
        bundle: verified.
        sources: where signals are measured, for reasons; by signal.

    Raises:
        ValueError: a value is out of its range.
        LookupError: there is no such fallback.
    """
    envelope, probation = envelope_config(node, sources), probation_config(node)
    return Controller(bundle, envelope, probation, seed=value(node, 'seed'))


def declare_adapter(node: Node) -> None:
    """Parameters of adapter_node."""
    declare_bundle(node)
    declare(
        node,
        'adapt_period_s',
        ADAPT_PERIOD_S,
        'Time from one adaptation to the next [s]; 0: only on request; else 0.01 and more.',
        between=(0.0, 3600.0),
        live=True,
    )
    declare(
        node,
        'budget_s',
        0.2,
        'An adaptation takes no further step after so long [s].',
        between=(0.001, 60.0),
        live=True,
    )
    declare(node, 'inner_steps', 0, "k; 0: the bundle's.", between=(0, 1000), live=True)
    declare(node, 'inner_lr', 0.0, "Step size; 0: the bundle's.", between=(0.0, 10.0), live=True)
    declare(
        node,
        'start',
        '',
        "Where each adaptation begins: 'start' (the bundle's, or what was consolidated), 'last' "
        '(the parameters in use); empty: as the bundle says.',
        live=True,
    )
    declare(
        node,
        'state_folder',
        '',
        'Folder of what is kept across restarts, absolute and of this robot alone: transitions, '
        'saved parameters, a consolidated start; empty: nothing is kept.',
    )
    declare(
        node,
        'consolidate_epsilon',
        0.0,
        'Outer step size of ~/consolidate: share of the way from the start to the parameters in '
        'use; 0: refused.',
        between=(0.0, 1.0),
    )
    declare(node, 'nice', 10, 'Niceness of this process.', between=(0, 19))
    declare(node, 'seed', 0, 'Of the minibatches.', between=(0, 2**31 - 1))

"""Starts the policy, the adapter in a process of its own, a reference to follow, and the robot.

ros2 launch reptile_agent adapt.launch.py robot:=mujoco
"""

from launch.actions import DeclareLaunchArgument, EmitEvent, GroupAction, RegisterEventHandler
from launch.conditions import IfCondition
from launch.events import matches_action
from launch.substitutions import EqualsSubstitution, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition

from launch import LaunchDescription


def declare_arguments() -> list[DeclareLaunchArgument]:
    """What a user can set on the command line."""
    params_file = PathJoinSubstitution(
        [FindPackageShare("reptile_agent"), "config", "arm.yaml"],
    )
    return [
        DeclareLaunchArgument(
            "bundle",
            default_value="",
            description="Folder of the exported bundle; empty: the one that the package ships.",
        ),
        DeclareLaunchArgument(
            "robot",
            default_value="mujoco",
            choices=["mujoco", "none"],
            description="'mujoco' starts the simulated robot; 'none': a robot's drivers run.",
        ),
        DeclareLaunchArgument(
            "params_file",
            default_value=params_file,
            description="YAML file with the parameters of all nodes.",
        ),
        DeclareLaunchArgument(
            "namespace",
            default_value="",
            description="Namespace of all nodes and topics; for more than one robot.",
        ),
        DeclareLaunchArgument(
            "use_sim_time",
            default_value="false",
            choices=["true", "false"],
            description="Stamp messages with the time of /clock.",
        ),
        DeclareLaunchArgument(
            "adapt",
            default_value="true",
            choices=["true", "false"],
            description="Whether to learn on the robot; 'false' keeps the bundle's start.",
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            choices=["debug", "info", "warn", "error", "fatal"],
            description="Least severity that the nodes log.",
        ),
    ]


def node_options() -> dict:
    """Keywords that all nodes share."""
    use_sim_time = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    return {
        "namespace": LaunchConfiguration("namespace"),
        "parameters": [LaunchConfiguration("params_file"), {"use_sim_time": use_sim_time}],
        "ros_arguments": ["--log-level", LaunchConfiguration("log_level")],
        "output": "screen",
    }


def bring_up(name: str, **options) -> list:
    """A lifecycle node of this package with the bundle, and the events that make it active."""
    common = node_options()
    bundle = ParameterValue(LaunchConfiguration("bundle"), value_type=str)
    common["parameters"] = [*common["parameters"], {"bundle": bundle}]
    node = LifecycleNode(package="reptile_agent", executable=name, name=name, **common, **options)

    def change(transition: int) -> EmitEvent:
        return EmitEvent(
            event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition)
        )

    return [
        # Before the node, so that no transition is missed. The start_state keeps a node that was
        # deactivated by hand from being activated again.
        RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node,
                start_state="configuring",
                goal_state="inactive",
                entities=[change(Transition.TRANSITION_ACTIVATE)],
            )
        ),
        node,
        change(Transition.TRANSITION_CONFIGURE),
    ]


def generate_launch_description() -> LaunchDescription:
    """The robot first, then what controls it, then what learns, then what it is to follow."""
    robot = Node(
        package="reptile_agent_mujoco",
        executable="mujoco_robot",
        name="mujoco_robot",
        condition=IfCondition(EqualsSubstitution(LaunchConfiguration("robot"), "mujoco")),
        **node_options(),
    )
    adapter = GroupAction(
        bring_up("adapter_node"),
        condition=IfCondition(LaunchConfiguration("adapt")),
        scoped=False,
    )
    reference = Node(
        package="reptile_agent",
        executable="reference_node",
        name="reference_node",
        **node_options(),
    )
    return LaunchDescription(
        [*declare_arguments(), robot, *bring_up("policy_node"), adapter, reference]
    )

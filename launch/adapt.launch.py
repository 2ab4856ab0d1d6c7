"""Starts the policy, the adapter in a process of its own, a reference to follow, and the robot.

ros2 launch reptile_agent adapt.launch.py robot:=mujoco
"""

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    GroupAction,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events import matches_action
from launch.substitutions import (
    EqualsSubstitution,
    IfElseSubstitution,
    LaunchConfiguration,
    PathJoinSubstitution,
)
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition

from launch import LaunchContext, LaunchDescription, Substitution


def config(name: str) -> PathJoinSubstitution:
    """A file of this package's configuration."""
    return PathJoinSubstitution([FindPackageShare("reptile_agent"), "config", name])


def declare_arguments() -> list[DeclareLaunchArgument]:
    """What a user can set on the command line."""
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
            default_value=config("arm.yaml"),
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
            "reference",
            default_value="true",
            choices=["true", "false"],
            description="Whether reference_node sends its sinusoids; 'false': a planner of yours "
            "publishes `reference`, and until then the robot stays where it is.",
        ),
        DeclareLaunchArgument(
            "dry_run",
            default_value="false",
            choices=["true", "false"],
            description="'true': everything but commands to the robot; 'false' leaves it to the "
            "params_file.",
        ),
        DeclareLaunchArgument(
            "exit_with_policy",
            default_value="false",
            choices=["true", "false"],
            description="'true': where policy_node ends or cannot be configured or activated, all "
            "that was launched ends, with exit code 1; for a service that somebody watches.",
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            choices=["debug", "info", "warn", "error", "fatal"],
            description="Least severity that the nodes log.",
        ),
    ]


def check_params_file(context: LaunchContext) -> None:
    """Stop where there is no such file: the nodes would start with defaults, and no bundle_key."""
    path = LaunchConfiguration("params_file").perform(context)
    if not Path(path).is_file():
        raise FileNotFoundError(f"params_file: there is no file {path}")


def node_options(name: str, *files: Substitution) -> dict:
    """Name, and keywords that all nodes share; parameters of `files` go over the params_file's."""
    use_sim_time = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    return {
        "name": name,
        "executable": name,
        "namespace": LaunchConfiguration("namespace"),
        "parameters": [LaunchConfiguration("params_file"), *files, {"use_sim_time": use_sim_time}],
        # The enclave only counts where SROS2 is switched on (config/sros2).
        "ros_arguments": [
            *("--log-level", LaunchConfiguration("log_level")),
            *("--enclave", f"/reptile_agent/{name}"),
        ],
        "output": "screen",
    }


def bring_up(name: str, *files: Substitution) -> list:
    """A lifecycle node of this package with the bundle, and the events that make it active."""
    options = node_options(name, *files)
    bundle = ParameterValue(LaunchConfiguration("bundle"), value_type=str)
    options["parameters"].append({"bundle": bundle})
    node = LifecycleNode(package="reptile_agent", **options)

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


def ends_with(node: LifecycleNode) -> list[RegisterEventHandler]:
    """With `exit_with_policy` nothing goes on without this node, nor with one that does nothing."""
    condition = IfCondition(LaunchConfiguration("exit_with_policy"))
    end = OpaqueFunction(function=end_launch, condition=condition)
    fails = [
        OnStateTransition(
            target_lifecycle_node=node,
            start_state=start,
            goal_state=goal,
            entities=[end],
        )
        for start, goal in (
            ("configuring", "unconfigured"),
            ("activating", "inactive"),
            ("errorprocessing", "unconfigured"),
            ("errorprocessing", "finalized"),
        )
    ]
    gone = OnProcessExit(target_action=node, on_exit=[end])
    return [RegisterEventHandler(handler) for handler in (*fails, gone)]


def end_launch(context: LaunchContext) -> None:
    """End the launch with an exit code that says so: `Shutdown` would leave it at 0."""
    if not context.is_shutdown:
        raise RuntimeError("policy_node ended, or could not be configured and activated")


def generate_launch_description() -> LaunchDescription:
    """The robot first, then what controls it, then what learns, then what it is to follow."""
    robot = Node(
        package="reptile_agent_mujoco",
        condition=IfCondition(EqualsSubstitution(LaunchConfiguration("robot"), "mujoco")),
        **node_options("mujoco_robot"),
    )
    adapter = GroupAction(
        bring_up("adapter_node"),
        condition=IfCondition(LaunchConfiguration("adapt")),
        scoped=False,
    )
    reference = Node(
        package="reptile_agent",
        condition=IfCondition(LaunchConfiguration("reference")),
        **node_options("reference_node"),
    )
    # A file, and no parameter: 'false' must not overrule a params_file that says true.
    dry_run = IfElseSubstitution(
        LaunchConfiguration("dry_run"),
        if_value=config("dry_run.yaml"),
        else_value=LaunchConfiguration("params_file"),
    )
    policy = bring_up("policy_node", dry_run)
    return LaunchDescription(
        [
            *declare_arguments(),
            OpaqueFunction(function=check_params_file),
            robot,
            *ends_with(policy[1]),  # before the node, as what is in bring_up
            *policy,
            adapter,
            reference,
        ]
    )

"""Plays a recorded bag to an adapter_node, which adapts as if the robot were there.

ros2 launch reptile_agent replay.launch.py bag:=monday

For trying settings on the node itself. `reptile-agent adapt-bag` does without ROS, and to the bit.
The adapter stays when the bag is over, so that its services can be called; Ctrl-C ends it.
"""

from pathlib import Path
from runpy import run_path

from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.substitutions import LaunchConfiguration
from launch_ros.event_handlers import OnStateTransition

from launch import LaunchDescription

TOPICS = ("policy_node/transition", "policy_node/status")
# The two files lie side by side, installed or not.
adapt = run_path(str(Path(__file__).with_name("adapt.launch.py")))
bring_up, config = adapt["bring_up"], adapt["config"]


def declare_arguments() -> list[DeclareLaunchArgument]:
    """What a user can set on the command line."""
    return [
        DeclareLaunchArgument(
            "bag",
            description="Folder of the bag, or its .mcap or .db3 file.",
        ),
        DeclareLaunchArgument(
            "bundle",
            default_value="",
            description="Folder of the bundle that drove the robot; empty: the package's own.",
        ),
        DeclareLaunchArgument(
            "params_file",
            default_value=config("arm.yaml"),
            description="YAML file with the parameters of adapter_node.",
        ),
        DeclareLaunchArgument(
            "namespace",
            default_value="",
            description="Namespace that the bag was recorded in; the adapter runs there too.",
        ),
        DeclareLaunchArgument(
            "rate",
            default_value="1.0",
            description="How much faster than recorded; adapt_period_s does not follow it.",
        ),
        DeclareLaunchArgument(
            "use_sim_time",
            default_value="false",
            choices=["true", "false"],
            description="Stamp messages with the time of the recording.",
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            choices=["debug", "info", "warn", "error", "fatal"],
            description="Least severity that the adapter logs.",
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    """The adapter, and the bag as soon as it is active."""
    topics = [[LaunchConfiguration("namespace"), f"/{topic}"] for topic in TOPICS]
    bag, rate = LaunchConfiguration("bag"), LaunchConfiguration("rate")
    command = ["ros2", "bag", "play", bag, "--clock", "40", "--rate", rate, "--topics", *topics]
    started = bring_up("adapter_node")
    play_when_active = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=started[1],
            start_state="activating",
            goal_state="active",
            entities=[ExecuteProcess(cmd=command, output="screen")],
        )
    )
    check = OpaqueFunction(function=adapt["check_params_file"])
    return LaunchDescription([*declare_arguments(), check, play_when_active, *started])

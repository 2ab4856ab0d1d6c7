"""Records what adaptation needs into a bag (MCAP), with rosbag2.

ros2 launch reptile_agent record.launch.py out:=monday

Start it before adapter_node is configured: then `reptile-agent adapt-bag` repeats every adaptation.
"""

from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.substitutions import LaunchConfiguration

from launch import LaunchDescription

TOPICS = (
    "policy_node/transition",
    "policy_node/status",
    "adapter_node/status",
    "adapter_node/parameters",
)


def generate_launch_description() -> LaunchDescription:
    """One recorder of the topics of one robot; Ctrl-C ends the bag."""
    arguments = [
        DeclareLaunchArgument(
            "out",
            description="Folder of the bag; it must not be there yet.",
        ),
        DeclareLaunchArgument(
            "namespace",
            default_value="",
            description="Namespace of the robot's nodes, as adapt.launch.py was given it.",
        ),
    ]
    topics = [[LaunchConfiguration("namespace"), f"/{topic}"] for topic in TOPICS]
    out = LaunchConfiguration("out")
    command = ["ros2", "bag", "record", "--storage", "mcap", "--output", out, "--topics", *topics]
    return LaunchDescription([*arguments, ExecuteProcess(cmd=command, output="screen")])

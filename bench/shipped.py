"""What the benchmarks of the robot's side run, if nothing else is named."""

from __future__ import annotations

from pathlib import Path

SHIPPED = Path(__file__).parents[1] / "ros2_ws/src/reptile_agent/bundle/arm"
"""The bundle that the ROS package ships."""

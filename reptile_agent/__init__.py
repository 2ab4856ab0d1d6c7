"""reptile-agent: meta-learn a start in simulation, adapt it on the robot in seconds, safely."""

__version__ = "0.1.0"

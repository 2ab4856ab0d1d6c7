"""How evenly the control process answers its sensors, idle and while the robot learns."""

"""What a robot recorded, read again: adaptations from a bag, and data to train on. No ROS."""

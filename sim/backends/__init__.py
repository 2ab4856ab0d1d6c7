"""Simulators behind `reptile_agent.task.VecSim`."""

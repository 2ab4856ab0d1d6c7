"""The simulated robot: the topics of a real one, and faults on request."""

"""Ways to run many inner loops: ours, a Python loop, and the libraries they are timed against.

Each is a function of a method and a `Work`, and returns the outer direction that the inner loops
of the meta-batch lead to, so that all can be compared number by number. None clips gradients:
learn2learn cannot.
"""

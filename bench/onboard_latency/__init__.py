"""`python -m bench.onboard_latency`: how long a robot takes to act, to adapt and to start."""

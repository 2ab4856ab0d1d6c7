"""The demo: real nodes over real DDS, a fault in mid-run, and a report."""

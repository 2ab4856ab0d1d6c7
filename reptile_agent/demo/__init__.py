"""The demo: real nodes, a fault in mid-run, and a report."""

"""Every number that the docs quote is printed by a command here: `python -m bench.NAME`."""

"""One HTML page about a run: what it read, drew and filmed."""

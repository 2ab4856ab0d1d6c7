"""One folder a family."""

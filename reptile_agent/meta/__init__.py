"""Learners and meta-algorithms in torch: where the start is learned. Offline only."""

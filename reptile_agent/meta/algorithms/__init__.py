"""One file a meta-algorithm: how inner loops become a direction for the start."""

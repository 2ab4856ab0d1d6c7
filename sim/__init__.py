"""Task variants in MuJoCo: where experience comes from."""

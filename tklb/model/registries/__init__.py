"""DECISIONS of the owner that registries keep. Frozen values."""

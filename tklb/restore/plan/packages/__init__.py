"""The packages and package sources of a plan. Pure."""

"""Plumbing with stable formats, for scripts and tests: scan, compare, merge-users, merge-packages."""

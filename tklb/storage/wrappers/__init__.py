"""Backends around a backend: retry, stall timeout and rate limit."""

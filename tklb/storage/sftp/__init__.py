"""A folder of an SSH server as a backend."""

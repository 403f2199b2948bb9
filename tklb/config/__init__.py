"""/etc/tklb and the environment, read once."""

"""The plan of a restore. Pure: the snapshot and this machine in, steps and warnings out."""

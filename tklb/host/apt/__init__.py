"""apt on this machine: its command, what its sources offer, installations, and the files that it uses."""

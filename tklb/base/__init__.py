"""The one door to other programs, durable files and locks, and one way to run work side by side."""

"""The install state of a type of machine: load, find, detect, derive, check and build profiles."""

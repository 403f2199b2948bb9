"""REGISTRIES of dpkg and debconf: decisions of the owner that are in no file of the delta. One module for each."""

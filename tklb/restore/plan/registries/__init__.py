"""DECISIONS and flags that a plan brings back beside the files. Pure."""

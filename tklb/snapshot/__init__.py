"""The metadata that travels in a snapshot beside the files."""

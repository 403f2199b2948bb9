"""The steps for files: what comes, what stands in its way, and what this machine has besides."""

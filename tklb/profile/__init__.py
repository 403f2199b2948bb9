"""Install state: what a machine type is just after installation. Load, find, detect, check, build."""

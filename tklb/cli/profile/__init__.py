"""Work with profiles: list, show, detect, lint, build."""

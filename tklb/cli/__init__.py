"""The commands: options in, one call of a story, its result shown; nothing is decided here."""

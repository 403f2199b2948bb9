"""SQLite databases that a program has open: whole copies, made by SQLite itself."""

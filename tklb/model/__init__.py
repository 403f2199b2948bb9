"""The nouns. Values only: nothing here asks or changes anything. Paths are bytes, times aware UTC or integer ns."""

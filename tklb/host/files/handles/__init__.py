"""Act on objects that a descriptor holds: who may change them, their attributes, folders while they are filled."""

"""Users and groups: the differences, and how the accounts of two machines become one. Pure."""

"""Dump: the databases of a server, into a folder."""

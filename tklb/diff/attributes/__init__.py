"""Attributes of files beside content and time: owners and modes, extended attributes, ACLs. Pure."""

"""REGISTRIES: their forms as text, and what differs between two machines. Pure."""

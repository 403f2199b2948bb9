"""What of this machine is in scope beyond its profile, and what of the owner's stays outside."""

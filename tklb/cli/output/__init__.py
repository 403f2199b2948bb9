"""What people read, and the same values as JSON for machines."""

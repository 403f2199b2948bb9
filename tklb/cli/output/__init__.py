"""Results as text for people, and the same values as JSON for machines."""

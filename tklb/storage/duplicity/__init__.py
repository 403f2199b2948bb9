"""Any address that duplicity can reach as a backend, in a helper process."""

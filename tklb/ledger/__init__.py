"""The sealed history: one entry for each snapshot, each naming the one before."""

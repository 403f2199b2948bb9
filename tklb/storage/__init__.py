"""Where snapshots live: the target's objects, the engine that encodes them, the ledger that says what is valid."""

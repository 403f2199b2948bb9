"""THE STAGES OF A VERIFICATION: ledger, objects, contents, impact, repair."""

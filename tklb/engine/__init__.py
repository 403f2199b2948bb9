"""duplicity: files in, encrypted volumes out, and back. It encodes; the ledger alone says what is valid."""

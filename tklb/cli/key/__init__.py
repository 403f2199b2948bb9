"""Look after the key: passphrase, escrow, kit, show, rotate."""

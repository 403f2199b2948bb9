"""Who may read: the secret and the key file that carries it to another machine."""

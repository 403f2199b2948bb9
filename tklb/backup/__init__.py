"""THE STAGES OF A BACKUP: collect, compare, encode, upload, seal."""

"""Load: one database of a dump, in the place of the one here."""

"""The names of ledger entries: number, snapshot, and the beginning of the id of the installation that sealed it."""

import re

ENTRY = re.compile(r"(\d{8})-(\d{8}T\d{6}Z)(-[0-9a-f]{8})?")


def snapshot_in_name(name: str) -> str:
    """The id of the snapshot whose entry has this name; "" where no entry can have it."""
    match = ENTRY.fullmatch(name)
    return match[2] if match else ""

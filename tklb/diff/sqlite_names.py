"""The files beside an SQLite database, told by their names and first bytes. Pure."""

SMALLEST_PAGE = 512  # bytes; every database is whole pages
LOG_HEAD = 8  # bytes that tell a log: "The Rollback Journal" and "WAL File Format" of the same
_JOURNAL = b"-journal"
LOGS = (b"-wal", _JOURNAL)
_SIDECARS = (b"-wal", b"-shm", _JOURNAL)
_WAL_MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_JOURNAL_MAGIC = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"


def journal(path: bytes) -> bytes:
    """Where a process that ends in the middle of a transaction leaves what the database `path` was before."""
    return path + _JOURNAL


def sidecars(path: bytes) -> tuple[bytes, ...]:
    """The files that belong to the database `path` while it is in use, there or not. Beside a copy they are wrong."""
    return tuple(path + end for end in _SIDECARS)


def is_sidecar(path: bytes) -> bool:
    """Whether `path` is called as what belongs to a database in use is."""
    return path.endswith(_SIDECARS)


def is_log(path: bytes, head: bytes) -> bool:
    """Whether SQLite would replay a file called `path` that begins with `head`, of LOG_HEAD bytes.

    What it emptied or zeroed when it was done with it is none.
    """
    if path.endswith(_JOURNAL):
        return head == _JOURNAL_MAGIC
    return path.endswith(b"-wal") and head.startswith(_WAL_MAGIC)

"""The files beside an SQLite database, by their names and first bytes. Pure."""

SMALLEST_PAGE = 512  # bytes; every database is whole pages
LOG_HEAD = 8  # bytes that tell a log: "The Rollback Journal" and "WAL File Format" of the same
_JOURNAL = b"-journal"
LOGS = (b"-wal", _JOURNAL)
_SIDECARS = (b"-wal", b"-shm", _JOURNAL)
_WAL_MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_JOURNAL_MAGIC = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"


def journal(path: bytes) -> bytes:
    """Give the path of the rollback journal of the database `path`: the state before an unfinished transaction."""
    return path + _JOURNAL


def sidecars(path: bytes) -> tuple[bytes, ...]:
    """Give the paths of the files that SQLite may keep beside the database `path`. Beside a copy they are wrong."""
    return tuple(path + end for end in _SIDECARS)


def is_sidecar(path: bytes) -> bool:
    """Whether `path` has the name of such a file."""
    return path.endswith(_SIDECARS)


def is_log(path: bytes, head: bytes) -> bool:
    """Whether SQLite would replay the file `path`, which begins with `head`, LOG_HEAD bytes.

    A file that SQLite emptied or zeroed after use is no log.
    """
    if path.endswith(_JOURNAL):
        return head == _JOURNAL_MAGIC
    return path.endswith(b"-wal") and head.startswith(_WAL_MAGIC)

"""The entry of a file that changed while it was backed up: the snapshot has other content than the manifest. Pure.

Set-id bits and capabilities were given to the content that the manifest describes, so other content gets none. In a
snapshot of an older version the content may even be that of another file: it comes back for root alone.
"""

from tklb.diff.attributes.xattrs import CAPABILITY
from tklb.model.files import FileEntry

_SET_ID = 0o6000
_FOR_OWNER = 0o600


def describe_stored(entry: FileEntry, sha256: str, *, has_one_inode: bool) -> FileEntry:
    """Give the entry for the content that is stored, which has this SHA-256 in lowercase hex."""
    if entry.kind != "file":
        return entry
    stored = entry._replace(
        sha256=sha256,
        size=None,
        mode=None if entry.mode is None else entry.mode & ~_SET_ID,
        xattrs=tuple(pair for pair in entry.xattrs or () if pair[0] != CAPABILITY),
    )
    if has_one_inode:
        return stored
    return stored._replace(uid=0, gid=0, uname=b"root", gname=b"root", mode=_FOR_OWNER, xattrs=())

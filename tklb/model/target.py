"""The address of a target, parsed."""

from enum import Enum

from tklb.lazy_dataclass import dataclass


class Permanence(Enum):
    """What a deletion does at a target."""

    DELETABLE = "deletable"  # what is deleted is gone
    VERSIONED = "versioned"  # what is deleted is hidden, until a rule of the bucket removes it
    APPEND_ONLY = "append-only"  # tklb may delete nothing
    LOCKED = "locked"  # what is there stays until its retention ends

    @property
    def is_write_once(self) -> bool:
        """Whether tklb should not even try to delete."""
        return self in (Permanence.APPEND_ONLY, Permanence.LOCKED)


@dataclass(frozen=True, slots=True)
class TargetUrl:
    """`text` is the address without credentials. Fields that a kind of target does not use are empty.

    file: `path` absolute. s3: `endpoint` ("" as configured), `bucket`, `path` the prefix without slashes around it.
    sftp: `user` ("" as SSH decides), `host`, `port` (0: 22), `path` absolute or relative to the home. Others: the text.
    """

    scheme: str  # lower case; file, s3, sftp, or whatever duplicity has a backend for
    text: str
    path: str = ""
    user: str = ""
    host: str = ""
    port: int = 0
    bucket: str = ""
    endpoint: str = ""

"""A backend: the objects at one target, by name. Every kind of target fulfils this contract.

Names are relative (`volumes/NAME`, `ledger/NAME`, `key.asc`). An object appears whole or not at all, and nobody changes
it afterwards. This module touches nothing; the backends do: local.py, s3/, sftp/ and duplicity/. The table in kinds.py
says which backend serves an address, and wrappers/ adds retry, stall timeout and rate limit.
"""

import re
from collections.abc import Callable
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Protocol

from tklb.lazy_dataclass import dataclass
from tklb.model.target import Permanence

VOLUMES = "volumes/"
LEDGER = "ledger/"
KEY = "key.asc"
PROBE = f"{LEDGER}probe-"  # begins the names of objects that only try whether a target works

_NAME = re.compile(r"(volumes|ledger)/[A-Za-z0-9_][A-Za-z0-9._-]*|key\.asc")

# A callback that gets the bytes that moved since its last call. It may take its time (a rate limit), or raise to end
# the operation. It gets 0 now and then while nothing moves, and a negative number for bytes that have to move again.
# Several threads may call it at once.
Moved = Callable[[int], object]


class ListedObject(NamedTuple):
    """An object by its name and its size in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class StoredObject:
    """The facts that a target reports about an object, without reading it.

    `size` is in bytes. `sha256` is in lowercase hex, None where the target does not know it. `modified` is aware, by
    the clock of the target, None where the target reports none. `permanence` says what a deletion of this object would
    do, as far as its status shows that; None where it shows nothing.
    """

    size: int
    sha256: str | None = None
    modified: datetime | None = None
    permanence: Permanence | None = None


class Creation(Enum):
    """The result of upload_new()."""

    MADE = "made"  # this call made the object, and no other call anywhere can have made or replaced it
    EXISTS = "exists"  # an object has that name; it is as it was. A call whose answer was lost may have made it
    UNSURE = "unsure"  # there was none just before, and now it is written: the target cannot exclude another writer


def ignore_moved(_count: int) -> None:
    """Ignore progress."""


class Backend(Protocol):
    """The objects at one target.

    Several threads may call any method at once; a backend that needs a connection for each keeps a pool (sessions.py).
    A backend tries each operation once and waits as long as its connection does: retries, the stall timeout and the
    rate limit are wrappers. A name that cannot be an object of ours raises ValueError (see check_name) before anything
    is asked.

    Every method raises TargetUnreachable, with `is_transient` if another try may succeed, and AccessRefused if the
    target refuses the credentials. Methods that write raise TargetFull. What a target says is hostile: a backend
    repeats none of it in a message unless it is printable and free of secrets, and reads no answer without a limit. An
    exception that `moved` raises passes through unchanged.
    """

    @property
    def address(self) -> str:
        """The address for people, without credentials."""

    @property
    def spool(self) -> Path | None:
        """The folder of the volumes, if the engine may write into it directly; None where tklb has to upload them.

        A backend gives a folder only where nobody but root can rename or replace anything in it or above it.
        """

    def upload(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
        """Store a file under `name`, durably.

        `sha256` is the digest of the file, in lowercase hex. The new object replaces an old one of that name in one
        step where the target can do that. Until then, and after any failure, readers find the old object or none; only
        duplicity's backends may leave a part under the name. The caller deletes nothing after a failure: tidy() does.

        Gives the size, and the SHA-256 where the target itself confirmed it for the content it now holds. Where
        `sha256` is None the caller has to read the object back. Raises TargetUnreachable where the target confirms
        another content, or where the file changes during the upload.
        """

    def upload_new(self, name: str, source: Path, sha256: str) -> Creation:
        """Store a small file under a name that no object has, durably; never replace one.

        `sha256` is the digest of the file, in lowercase hex. Of several machines that call this for one name, exactly
        one gets MADE where the target can exclude the others: a conditional request of S3, a hard link or a rename
        that replaces nothing elsewhere. Where it cannot, the result is UNSURE, and the caller has to list and read
        again. The content is not confirmed: see create_object() in upload.py. Raises what upload() raises.
        """

    def download(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
        """Copy an object into a new file of mode 0600.

        The content is not checked: the caller compares it with the ledger. A failure leaves no file behind. Raises
        FileExistsError where `destination` exists, TargetDamaged where there is no such object, and NoSpace where the
        disk of `destination` is full.
        """

    def read(self, name: str, limit: int) -> bytes:
        """Give the content of a small object. Raises TargetDamaged where it is missing or longer than `limit` bytes."""

    def list(self, prefix: str) -> tuple[ListedObject, ...]:
        """Give the objects whose names begin with `prefix` (VOLUMES or LEDGER), sorted by name.

        Only plain objects with names of ours are listed, never folders or links. A listing may lag behind uploads and
        deletions; where that matters, the caller asks stat() again.
        """

    def stat(self, name: str) -> StoredObject | None:
        """Give what the target reports about an object without reading it; None where it is missing."""

    def delete(self, name: str) -> None:
        """Delete an object. A missing one is no failure."""

    def tidy(self) -> None:
        """Delete what interrupted uploads left behind, as far as the target lists it.

        The caller makes sure that nobody uploads to this target meanwhile.
        """

    def close(self) -> None:
        """Close all connections; operations that use one may fail. The next operation opens new ones."""


def is_name(name: str) -> bool:
    """Whether `name` can be the name of an object of ours."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> str:
    """Give `name`; raise ValueError where it cannot be the name of an object of ours."""
    if not is_name(name):
        raise ValueError(f"no object name: {name!r}")
    return name

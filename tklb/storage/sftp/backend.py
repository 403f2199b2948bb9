"""The backend for a folder of an SSH server.

Objects are files of mode 0600 in folders of mode 0700. It writes each beside its place, syncs and renames it. Touches
that folder. Each busy thread has a connection of its own; an idle one is kept for the next thread.
"""

import contextlib
import hashlib
import posixpath
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from tklb.base.fs import PRIVATE_FILE, PRIVATE_FOLDER, open_plain
from tklb.config.schema import SftpConfig
from tklb.errors import AccessRefused, TargetDamaged, TargetFull, TargetUnfit, TargetUnreachable, TklbError
from tklb.model.target import TargetUrl
from tklb.storage.backend import (
    LEDGER,
    VOLUMES,
    Creation,
    ListedObject,
    Moved,
    StoredObject,
    check_name,
    ignore_moved,
    is_name,
)
from tklb.storage.local import create_private
from tklb.storage.sessions import SessionPool
from tklb.storage.sftp.ssh import Connection, connect
from tklb.storage.sftp.wire import (
    DENIED,
    FAILURE,
    FULL,
    NO_SUCH_FILE,
    READ,
    READ_ONLY,
    UNFIT,
    WRITE_NEW,
    Attributes,
    Disk,
    Garbled,
    RequestRefused,
    Wire,
)

_BESIDE = ".part"
_READ_ONLY = "its file system is read-only"
_LEAST_ROOM = 1 << 20  # bytes; where less is left, a write failed because of it


class SftpSession:
    """A connection and the SFTP protocol on it."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self.wire = connection, Wire(connection)

    @property
    def is_alive(self) -> bool:
        return self._connection.is_alive

    def close(self) -> None:
        self._connection.close()


class SftpBackend:
    """See Backend and DistantBackend. Its constructor sends nothing."""

    spool = None

    def __init__(self, address: TargetUrl, config: SftpConfig) -> None:
        self._address, self._config = address, config
        self._folder = address.path.encode("utf-8", "surrogateescape")
        self._sessions = SessionPool(self._open_session)

    @property
    def address(self) -> str:
        return self._address.text

    def make(self) -> None:
        parts = self._folder.split(b"/")
        above = [b"/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        with self._session() as wire, self._explain_full_disk(wire, "its folder"):
            for folder in (*filter(None, above), self._path(VOLUMES[:-1]), self._path(LEDGER[:-1])):
                self._make_folder(wire, folder)

    def upload(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
        path = self._path(check_name(name))
        beside = path + _BESIDE.encode()
        with (
            open_plain(source) as origin,
            self._session(name) as wire,
            _remove_on_failure(wire, beside),
            self._explain_full_disk(wire, name),
        ):
            wire.remove(beside)
            size = self._write(wire, beside, origin, sha256, moved)
            wire.replace(beside, path)
        return StoredObject(size)

    def upload_new(self, name: str, source: Path, sha256: str) -> Creation:
        path = self._path(check_name(name))
        beside = path + f".{secrets.token_hex(8)}{_BESIDE}".encode()  # another machine may have the name
        with (
            open_plain(source) as origin,
            self._session(name) as wire,
            _remove_on_failure(wire, beside),
            self._explain_full_disk(wire, name),
        ):
            self._write(wire, beside, origin, sha256, ignore_moved)
            return _name_new(wire, beside, path)

    def download(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
        with (
            self._session(name) as wire,
            self._object(wire, name) as (handle, size),
            create_private(destination) as copy,
        ):

            def take(block: bytes) -> None:
                copy.write(block)
                moved(len(block))

            if wire.read(handle, size, take) != size:
                raise self._damage(name, "was cut off while it was read")

    def read(self, name: str, limit: int) -> bytes:
        content = bytearray()
        with self._session(name) as wire, self._object(wire, name) as (handle, size):
            if size > limit:
                raise self._damage(name, f"is longer than {limit} bytes")
            if wire.read(handle, size, content.extend) != size:
                raise self._damage(name, "was cut off while it was read")
        return bytes(content)

    def list(self, prefix: str) -> tuple[ListedObject, ...]:
        with self._session() as wire:
            found = [ListedObject(name, attributes.size or 0) for name, attributes in self._files(wire, prefix)]
        return tuple(sorted(one for one in found if is_name(one.name) and not one.name.endswith(_BESIDE)))

    def stat(self, name: str) -> StoredObject | None:
        with self._session(name) as wire:
            known = wire.lstat(self._path(check_name(name)))
        if known is None or not known.is_file or known.size is None:
            return None
        modified = None if known.modified is None else datetime.fromtimestamp(known.modified, UTC)
        return StoredObject(known.size, modified=modified)

    def delete(self, name: str) -> None:
        path = self._path(check_name(name))
        with self._session(name) as wire, self._explain_full_disk(wire, name):
            wire.remove(path)

    def tidy(self) -> None:
        with self._session() as wire:
            for prefix in (VOLUMES, LEDGER, ""):
                names = [name for name, _ in self._files(wire, prefix) if name.endswith(_BESIDE)]
                for name in filter(lambda name: is_name(name.removesuffix(_BESIDE)), names):
                    wire.remove(self._path(name))

    def close(self) -> None:
        self._sessions.close()

    def _open_session(self) -> SftpSession:
        connection = connect(self._address, self._config)
        try:
            return SftpSession(connection)
        except BaseException:
            connection.close()
            raise

    def _path(self, name: str) -> bytes:
        return posixpath.join(self._folder, name.encode())

    def _make_folder(self, wire: Wire, folder: bytes) -> None:
        try:
            wire.make_folder(folder, PRIVATE_FOLDER)
        except RequestRefused as exc:  # as a rule there is one: version 3 has no code for that
            try:
                is_folder = wire.stat(folder).is_folder
            except RequestRefused:
                raise exc from None
            if not is_folder:
                reason = f"{folder.decode('utf-8', 'backslashreplace')} is there, and no folder"
                raise TargetUnreachable(address=self.address, reason=reason) from exc

    def _write(self, wire: Wire, beside: bytes, origin: IO[bytes], sha256: str, moved: Moved) -> int:
        """Write a new file durably, and compare its content with `sha256`. Gives its size."""
        digest = hashlib.sha256()

        def read(size: int) -> bytes:
            block = origin.read(size)
            digest.update(block)
            return block

        handle = wire.open(beside, WRITE_NEW, PRIVATE_FILE)
        size = wire.write(handle, read, lambda block: moved(len(block)))
        wire.sync(handle)
        kept = wire.fstat(handle).size
        wire.close(handle)
        if kept != size:
            raise TargetUnreachable(address=self.address, reason=f"it kept {kept} of {size} bytes", is_transient=True)
        if digest.hexdigest() != sha256:
            raise TargetUnreachable(address=self.address, reason="the file changed while it was stored")
        return size

    @contextlib.contextmanager
    def _object(self, wire: Wire, name: str) -> Iterator[tuple[bytes, int]]:
        """Open an object; give its handle and size. Only a plain file is one."""
        path = self._path(check_name(name))
        known = wire.lstat(path)
        if known is None and wire.lstat(posixpath.dirname(path)) is None:
            raise self._miss_target()
        if known is None or not known.is_file:
            raise self._damage(name, "is missing")
        handle = wire.open(path, READ)
        size = wire.fstat(handle).size
        if size is None:
            raise Garbled("it tells no size")
        yield handle, size
        wire.close(handle)

    def _files(self, wire: Wire, prefix: str) -> Iterator[tuple[str, Attributes]]:
        """The plain files of a folder whose names are ASCII, as ours are."""
        folder = self._path(prefix).rstrip(b"/")
        for name, attributes in list(wire.names(folder)):
            known = attributes
            if attributes.mode is None or attributes.size is None:
                known = wire.lstat(posixpath.join(folder, name)) or attributes
            if known.is_file and name.isascii():
                yield prefix + name.decode(), known

    @contextlib.contextmanager
    def _explain_full_disk(self, wire: Wire, name: str) -> Iterator[None]:
        """Tell a full disk from other failures: version 3 of the protocol has no code for that."""
        try:
            yield
        except RequestRefused as exc:
            if exc.code in FULL:
                raise TargetFull(address=self.address) from exc
            if exc.code != FAILURE:
                raise
            raise self._explain_write(name, exc, _find_disk(wire, self._folder)) from exc

    def _explain_write(self, name: str, exc: RequestRefused, disk: Disk | None) -> TklbError:
        if disk and disk.is_read_only:
            return AccessRefused(address=self.address, reason=_READ_ONLY)
        if disk and disk.room < _LEAST_ROOM:
            return TargetFull(address=self.address)
        reason = f"it cannot write {name}: {exc.text} (is a quota used up?)"
        return TargetUnreachable(address=self.address, reason=reason)

    @contextlib.contextmanager
    def _session(self, name: str = "") -> Iterator[Wire]:
        """Give a session, and turn its failures into those of the target."""
        try:
            with self._sessions.one() as session:
                yield session.wire
        except RequestRefused as exc:
            raise self._explain_refusal(exc, name) from exc
        except Garbled as exc:
            raise TargetUnreachable(address=self.address, reason=f"it is no SFTP server: {exc}") from exc
        except TimeoutError as exc:
            raise self._lose("it does not answer any more") from exc
        except ConnectionError as exc:
            raise self._lose("the connection was lost") from exc

    def _explain_refusal(self, exc: RequestRefused, name: str) -> TklbError:
        if exc.code == NO_SUCH_FILE:
            return self._miss_target()
        if exc.code == DENIED:
            return AccessRefused(address=self.address, reason=f"{name}: {exc.text}" if name else exc.text)
        if exc.code == READ_ONLY:
            return AccessRefused(address=self.address, reason=_READ_ONLY)
        kind = TargetUnfit if exc.code in UNFIT else TargetUnreachable
        return kind(address=self.address, reason=f"{name}: {exc.text}" if name else exc.text)

    def _lose(self, reason: str) -> TargetUnreachable:
        return TargetUnreachable(address=self.address, reason=reason, is_transient=True)

    def _miss_target(self) -> TargetUnreachable:
        return TargetUnreachable(address=self.address, reason="there is no tklb target")

    def _damage(self, name: str, reason: str) -> TargetDamaged:
        return TargetDamaged(address=self.address, reason=f"{name} {reason}")


def _find_disk(wire: Wire, folder: bytes) -> Disk | None:
    """The file system of a folder, or of the nearest one above it that is there; None where the server gives none."""
    while folder:
        with contextlib.suppress(RequestRefused):
            return wire.disk(folder)
        folder = posixpath.dirname(folder) if folder != b"/" else b""
    return None


def _name_new(wire: Wire, beside: bytes, path: bytes) -> Creation:
    """Give a finished file its name, unless something has that name."""
    is_linked = wire.link(beside, path)
    if not is_linked and wire.lstat(path) is None and _rename_new(wire, beside, path):
        return Creation.UNSURE
    wire.remove(beside)
    return Creation.MADE if is_linked else Creation.EXISTS


def _rename_new(wire: Wire, beside: bytes, path: bytes) -> bool:
    """Rename a file; False where another machine has made the new name meanwhile."""
    try:
        wire.rename(beside, path)
    except RequestRefused:
        if wire.lstat(path) is None:
            raise
        return False
    return True


@contextlib.contextmanager
def _remove_on_failure(wire: Wire, beside: bytes) -> Iterator[None]:
    """Remove the file beside, if the block fails and the server still answers."""
    try:
        yield
    except (ConnectionError, TimeoutError, Garbled):
        raise
    except BaseException:
        with contextlib.suppress(RequestRefused, Garbled, ConnectionError, TimeoutError):
            wire.remove(beside)
        raise

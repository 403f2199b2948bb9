"""The backend for any other address that duplicity can reach.

Each busy thread has a helper process of its own (helper.py). Touches the address, and private folders beside the
destination of a download. duplicity's backends may write in place, so a part of an object can stand under its name: the
caller reads each upload back, and the ledger names the digest of each object.
"""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tklb.base.fs import PRIVATE_FILE, free_space, is_plain, report_full_disk
from tklb.config.paths import Paths
from tklb.errors import (
    AccessRefused,
    NoSpace,
    TargetDamaged,
    TargetFull,
    TargetUnfit,
    TargetUnreachable,
    TklbError,
    UsageWrong,
)
from tklb.model.secret import Secret
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
from tklb.storage.duplicity.client import PATIENCE, DownloadWatch, HelperFailed, HelperProcess, UploadWatch, size_below
from tklb.storage.duplicity.environment import read_environment
from tklb.storage.sessions import SessionPool

_LEAST_ROOM = 1 << 20
_SHORTEST_SECRET = 4  # a shorter one stands in too many messages to be masked


class DuplicityBackend:
    """See Backend and DistantBackend. Where duplicity reports no sizes, a listing downloads the objects."""

    spool = None

    def __init__(self, address: TargetUrl, environment_file: str) -> None:
        usual = Paths().config / "environment"
        self._text = address.text
        self._file = environment_file or (str(usual) if usual.exists() else "")
        self._environment: dict[str, Secret] = {}
        self._sessions = SessionPool(self._open_session)

    @property
    def address(self) -> str:
        return self._text

    def make(self) -> None:
        for prefix in (VOLUMES, LEDGER):
            with self._session() as helper:
                helper.ask({"do": "make", "folder": prefix.rstrip("/")})

    def upload(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
        request = {"do": "upload", **_place(name), "file": str(source)}
        size = os.stat(source).st_size
        left = size
        with self._session() as helper:

            def count(amount: int) -> None:
                nonlocal left
                amount = min(amount, left)
                left -= amount
                moved(amount)

            helper.ask(request, count, DownloadWatch(helper, source))
            count(left)
            kept = helper.ask({"do": "stat", **_place(name)})["size"]
        if kept != size:
            raise TargetUnreachable(address=self.address, reason=f"it kept {kept} of {size} bytes", is_transient=True)
        return StoredObject(size)

    def upload_new(self, name: str, source: Path, sha256: str) -> Creation:
        if self.stat(name) is not None:
            return Creation.EXISTS
        self.upload(name, source, sha256)
        return Creation.UNSURE  # none of duplicity's backends can exclude another writer

    def download(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
        _place(name)
        if os.path.lexists(destination):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(destination))
        beside = tempfile.TemporaryDirectory(prefix=".incoming-", dir=destination.parent, ignore_cleanup_errors=True)
        with report_full_disk(destination), beside as folder:
            incoming = self._download_to(name, Path(folder), moved)
            os.link(incoming, destination)  # a rename would replace a file that is there

    def read(self, name: str, limit: int) -> bytes:
        def check(_: int) -> None:
            if size_below(folder) > limit:
                raise too_long

        too_long = self._damage(name, f"is longer than {limit} bytes")
        with tempfile.TemporaryDirectory(prefix="tklb-read-") as temporary:
            folder = Path(temporary)
            incoming = self._download_to(name, folder, check)
            check(0)
            return incoming.read_bytes()

    def list(self, prefix: str) -> tuple[ListedObject, ...]:
        with self._session() as helper:
            sizes = helper.ask({"do": "list", "folder": prefix.rstrip("/")})["sizes"]
        found = (ListedObject(prefix + name, int(size)) for name, size in sizes.items())
        return tuple(sorted(one for one in found if is_name(one.name)))

    def stat(self, name: str) -> StoredObject | None:
        request = {"do": "stat", **_place(name)}
        with self._session() as helper:
            try:
                size = helper.ask(request)["size"]
            except HelperFailed as exc:
                if exc.kind != "missing":
                    raise
                return None
        return None if size is None else StoredObject(int(size))

    def delete(self, name: str) -> None:
        request = {"do": "delete", **_place(name)}
        if self.stat(name) is None:
            return
        with self._session() as helper:
            helper.ask(request)
        if self.stat(name) is not None:  # duplicity tells nobody where this fails
            raise TargetUnreachable(address=self.address, reason=f"{name} could not be deleted", is_transient=True)

    def tidy(self) -> None:
        """Do nothing: duplicity cannot list what an interrupted upload leaves behind."""

    def close(self) -> None:
        self._sessions.close()

    def _open_session(self) -> HelperProcess:
        self._environment = read_environment(Path(self._file)) if self._file else {}
        return HelperProcess(self._text, self._environment)

    def _download_to(self, name: str, folder: Path, moved: Moved) -> Path:
        """Download an object into `folder`; give the file, which is private and plain."""
        incoming = folder / "object"
        known = UploadWatch(folder)
        request = {"do": "download", **_place(name), "file": str(incoming)}
        with self._session(name, folder) as helper:
            helper.ask(request, moved, known)
        moved(known())
        descriptor = os.open(incoming, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if not is_plain(os.fstat(descriptor)):
                raise self._damage(name, "is no plain file")
            os.fchmod(descriptor, PRIVATE_FILE)
        finally:
            os.close(descriptor)
        return incoming

    @contextlib.contextmanager
    def _session(self, name: str = "", destination: Path | None = None) -> Iterator[HelperProcess]:
        """Give a helper, and turn its failures into those of the target."""
        try:
            with self._sessions.one() as helper:
                yield helper
        except HelperFailed as exc:
            raise self._explain_failure(exc, name, destination) from exc
        except TimeoutError as exc:
            reason = f"nothing moved for {PATIENCE:g} seconds"
            raise TargetUnreachable(address=self.address, reason=reason, is_transient=True) from exc
        except ConnectionError as exc:
            reason = f"duplicity ended: {self._mask(str(exc))}"
            raise TargetUnreachable(address=self.address, reason=reason, is_transient=True) from exc

    def _explain_failure(self, exc: HelperFailed, name: str, destination: Path | None) -> TklbError:
        reason = self._mask(exc.reason)
        scheme = self._text.partition("://")[0]
        match exc.kind:
            case "scheme":
                return UsageWrong(reason=f"`{scheme}://` is no kind of address that tklb or duplicity knows")
            case "unusable":
                return UsageWrong(reason=f"duplicity's backend for `{scheme}://` cannot be used here: {reason}")
            case "password":
                wanted = "it wants a password: BACKEND_PASSWORD=… in /etc/tklb/environment"
                return AccessRefused(address=self.address, reason=wanted)
            case "unfit" | "denied":
                return (TargetUnfit if exc.kind == "unfit" else AccessRefused)(address=self.address, reason=reason)
            case "missing" if name:
                return self._damage(name, "is missing")
            case "missing":
                return TargetUnreachable(address=self.address, reason=f"there is no tklb target: {reason}")
        if destination and (exc.kind == "full" or free_space(destination) < _LEAST_ROOM):
            return NoSpace(path=destination.parent, reason="its file system is full")
        if name and self._is_missing(name):
            return self._damage(name, "is missing")
        if exc.kind == "full":
            return TargetFull(address=self.address)
        return TargetUnreachable(address=self.address, reason=reason, is_transient=True)

    def _is_missing(self, name: str) -> bool:
        try:
            return self.stat(name) is None
        except TklbError:
            return False

    def _damage(self, name: str, reason: str) -> TargetDamaged:
        return TargetDamaged(address=self.address, reason=f"{name} {reason}")

    def _mask(self, text: str) -> str:
        """The text as one line, with every secret of the environment masked."""
        for value in self._environment.values():
            if len(value.reveal()) >= _SHORTEST_SECRET:
                text = text.replace(value.reveal(), "***")
        return " / ".join(line.strip() for line in text.splitlines() if line.strip())


def _place(name: str) -> dict[str, str]:
    folder, _, last = check_name(name).rpartition("/")
    return {"folder": folder, "name": last}

"""A target at any other address that duplicity has a back end for.

Takes and gives objects by way of courier.py, a process of its own for each thread. Touches that address and private
folders beside what is fetched. What a back end makes of an object is its own affair: it may write in place, so a torn
object can be there under its name. Whoever puts reads back, and the ledger knows its entries.
"""

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tklb.base.fs import PRIVATE_FILE, report_full_disk
from tklb.config.paths import Paths
from tklb.errors import AccessRefused, NoSpace, TargetDamaged, TargetFull, TargetUnreachable, TklbError, UsageWrong
from tklb.model.secret import Secret
from tklb.model.target import TargetUrl
from tklb.storage.backend import LEDGER, VOLUMES, ListedObject, Moved, StoredObject, check_name, ignore_moved, is_name
from tklb.storage.duplicity.client import PATIENCE, DownloadWatch, HelperFailed, HelperProcess, UploadWatch, size_below
from tklb.storage.duplicity.environment import read_environment
from tklb.storage.sessions import SessionPool

_LEAST_ROOM = 1 << 20
_SHORTEST_SECRET = 4  # what is shorter stands in too many messages to be masked


class DuplicityBackend:
    """See tklb.storage.open.Distant. Where a back end knows no sizes, objects are fetched to be listed."""

    spool = None

    def __init__(self, address: TargetUrl, environment_file: str) -> None:
        usual = Paths().config / "environment"
        self._text = address.text
        self._file = environment_file or (str(usual) if usual.exists() else "")
        self._environment: dict[str, Secret] = {}
        self._sessions = SessionPool(self._begin)

    @property
    def address(self) -> str:
        return self._text

    def make(self) -> None:
        for prefix in (VOLUMES, LEDGER):
            with self._told() as courier:
                courier.ask({"do": "make", "folder": prefix.rstrip("/")})

    def put(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
        request = {"do": "put", **_place(name), "file": str(source)}
        size = os.stat(source).st_size
        left = size
        with self._told() as courier:

            def told(count: int) -> None:
                nonlocal left
                count = min(count, left)
                left -= count
                moved(count)

            courier.ask(request, told, DownloadWatch(courier, source))
            told(left)
            kept = courier.ask({"do": "stat", **_place(name)})["size"]
        if kept != size:
            raise TargetUnreachable(address=self.address, reason=f"it kept {kept} of {size} bytes", may_pass=True)
        return StoredObject(size)

    def get(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
        _place(name)
        if os.path.lexists(destination):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(destination))
        beside = tempfile.TemporaryDirectory(prefix=".coming-", dir=destination.parent, ignore_cleanup_errors=True)
        with report_full_disk(destination), beside as folder:
            coming = self._fetched(name, Path(folder), moved)
            os.link(coming, destination)  # a rename would replace a file that is there

    def read(self, name: str, limit: int) -> bytes:
        def check(_: int) -> None:
            if size_below(folder) > limit:
                raise too_long

        too_long = self._damaged(name, f"is longer than {limit} bytes")
        with tempfile.TemporaryDirectory(prefix="tklb-read-") as temporary:
            folder = Path(temporary)
            coming = self._fetched(name, folder, check)
            check(0)
            return coming.read_bytes()

    def list(self, prefix: str) -> tuple[ListedObject, ...]:
        with self._told() as courier:
            sizes = courier.ask({"do": "list", "folder": prefix.rstrip("/")})["sizes"]
        found = (ListedObject(prefix + name, int(size)) for name, size in sizes.items())
        return tuple(sorted(one for one in found if is_name(one.name)))

    def stat(self, name: str) -> StoredObject | None:
        request = {"do": "stat", **_place(name)}
        with self._told() as courier:
            try:
                size = courier.ask(request)["size"]
            except HelperFailed as exc:
                if exc.kind != "missing":
                    raise
                return None
        return None if size is None else StoredObject(int(size))

    def delete(self, name: str) -> None:
        request = {"do": "delete", **_place(name)}
        if self.stat(name) is None:
            return
        with self._told() as courier:
            courier.ask(request)
        if self.stat(name) is not None:  # duplicity tells nobody where this fails
            raise TargetUnreachable(address=self.address, reason=f"{name} could not be deleted", may_pass=True)

    def tidy(self) -> None:
        """Nothing is known of what a back end leaves behind."""

    def close(self) -> None:
        self._sessions.close()

    def _begin(self) -> HelperProcess:
        self._environment = read_environment(Path(self._file)) if self._file else {}
        return HelperProcess(self._text, self._environment)

    def _fetched(self, name: str, folder: Path, moved: Moved) -> Path:
        """A file in `folder` with the content of an object, private and plain."""
        coming = folder / "object"
        known = UploadWatch(folder)
        request = {"do": "get", **_place(name), "file": str(coming)}
        with self._told(name, folder) as courier:
            courier.ask(request, moved, known)
        moved(known())
        descriptor = os.open(coming, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise self._damaged(name, "is no plain file")
            os.fchmod(descriptor, PRIVATE_FILE)
        finally:
            os.close(descriptor)
        return coming

    @contextlib.contextmanager
    def _told(self, name: str = "", destination: Path | None = None) -> Iterator[HelperProcess]:
        """Give a courier, and what fails there its name."""
        try:
            with self._sessions.one() as courier:
                yield courier
        except HelperFailed as exc:
            raise self._failure_of(exc, name, destination) from exc
        except TimeoutError as exc:
            reason = f"nothing moved for {PATIENCE:g} seconds"
            raise TargetUnreachable(address=self.address, reason=reason, may_pass=True) from exc
        except ConnectionError as exc:
            reason = f"duplicity ended: {self._masked(str(exc))}"
            raise TargetUnreachable(address=self.address, reason=reason, may_pass=True) from exc

    def _failure_of(self, exc: HelperFailed, name: str, destination: Path | None) -> TklbError:
        reason = self._masked(exc.reason)
        scheme = self._text.partition("://")[0]
        match exc.kind:
            case "scheme":
                return UsageWrong(reason=f"`{scheme}://` is no kind of address that tklb or duplicity knows")
            case "unusable":
                return UsageWrong(reason=f"duplicity's back end for `{scheme}://` cannot be used here: {reason}")
            case "password":
                wanted = "it wants a password: BACKEND_PASSWORD=… in /etc/tklb/environment"
                return AccessRefused(address=self.address, reason=wanted)
            case "denied":
                return AccessRefused(address=self.address, reason=reason)
            case "missing" if name:
                return self._damaged(name, "is missing")
            case "missing":
                return TargetUnreachable(address=self.address, reason=f"there is no tklb target: {reason}")
        if destination and (exc.kind == "full" or _is_full(destination)):
            return NoSpace(path=destination.parent, reason="its file system is full")
        if name and self._is_missing(name):
            return self._damaged(name, "is missing")
        if exc.kind == "full":
            return TargetFull(address=self.address)
        return TargetUnreachable(address=self.address, reason=reason, may_pass=True)

    def _is_missing(self, name: str) -> bool:
        try:
            return self.stat(name) is None
        except TklbError:
            return False

    def _damaged(self, name: str, reason: str) -> TargetDamaged:
        return TargetDamaged(address=self.address, reason=f"{name} {reason}")

    def _masked(self, text: str) -> str:
        """One line, without what was given as a secret."""
        for value in self._environment.values():
            if len(value.reveal()) >= _SHORTEST_SECRET:
                text = text.replace(value.reveal(), "***")
        return " / ".join(line.strip() for line in text.splitlines() if line.strip())


def _place(name: str) -> dict[str, str]:
    folder, _, last = check_name(name).rpartition("/")
    return {"folder": folder, "name": last}


def _is_full(folder: Path) -> bool:
    return os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize < _LEAST_ROOM

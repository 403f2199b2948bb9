"""A target in memory, for tests that need a target and no disk. It keeps the contract of test_backend.py."""

import hashlib
import threading
from datetime import UTC, datetime
from pathlib import Path

from tklb.errors import TargetDamaged
from tklb.storage.backend import Creation, ListedObject, Moved, StoredObject, check_name, ignore_moved


class MemoryTarget:
    """See tklb.storage.backend.Backend. `objects` is there for tests to break."""

    address = "memory:"
    spool = None

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.objects: dict[str, bytes] = {}
        self.modified: dict[str, datetime] = {}

    def make(self) -> None:
        pass

    def upload(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
        content = source.read_bytes()
        moved(len(content))
        self.objects[check_name(name)] = content
        self.modified[name] = datetime.now(UTC)
        return self._known(name)

    def upload_new(self, name: str, source: Path, sha256: str) -> Creation:
        content = source.read_bytes()
        with self._lock:
            if check_name(name) in self.objects:
                return Creation.EXISTS
            self.objects[name] = content
        self.modified[name] = datetime.now(UTC)
        return Creation.MADE

    def download(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
        content = self._object(name)
        with destination.open("xb") as copy:
            destination.chmod(0o600)
            copy.write(content)
        moved(len(content))

    def read(self, name: str, limit: int) -> bytes:
        content = self._object(name)
        if len(content) > limit:
            raise TargetDamaged(address=self.address, reason=f"{name} is longer than {limit} bytes")
        return content

    def list(self, prefix: str) -> tuple[ListedObject, ...]:
        return tuple(
            sorted(ListedObject(n, len(content)) for n, content in self.objects.items() if n.startswith(prefix))
        )

    def stat(self, name: str) -> StoredObject | None:
        return self._known(name) if check_name(name) in self.objects else None

    def delete(self, name: str) -> None:
        self.objects.pop(check_name(name), None)

    def tidy(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _known(self, name: str) -> StoredObject:
        content = self.objects[name]
        return StoredObject(len(content), hashlib.sha256(content).hexdigest(), self.modified.get(name))

    def _object(self, name: str) -> bytes:
        if check_name(name) not in self.objects:
            raise TargetDamaged(address=self.address, reason=f"{name} is missing")
        return self.objects[name]

"""A target in memory, for tests that need a target and no disk. It keeps the contract of test_target.py."""

import hashlib
from pathlib import Path

from tklb.errors import TargetDamaged
from tklb.store.target import Stored, check_name


class MemoryTarget:
    """See tklb.store.target.Target. `objects` is there for tests to break."""

    address = "memory:"
    spool = None

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, name: str, source: Path) -> None:
        self.objects[check_name(name)] = source.read_bytes()

    def get(self, name: str, destination: Path) -> None:
        content = self._object(name)
        with destination.open("xb") as copy:
            destination.chmod(0o600)
            copy.write(content)

    def read(self, name: str, limit: int) -> bytes:
        content = self._object(name)
        if len(content) > limit:
            raise TargetDamaged(address=self.address, reason=f"{name} is longer than {limit} bytes")
        return content

    def list(self, prefix: str) -> tuple[str, ...]:
        return tuple(sorted(name for name in self.objects if name.startswith(prefix)))

    def stat(self, name: str) -> Stored | None:
        content = self.objects.get(check_name(name))
        return None if content is None else Stored(len(content), hashlib.sha256(content).hexdigest())

    def delete(self, name: str) -> None:
        self.objects.pop(check_name(name), None)

    def _object(self, name: str) -> bytes:
        if check_name(name) not in self.objects:
            raise TargetDamaged(address=self.address, reason=f"{name} is missing")
        return self.objects[name]

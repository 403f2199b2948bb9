"""What every wrapper has: it is a backend around a backend, and passes on whatever it does not change.

Takes a backend; gives a backend. Touches nothing of its own.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tklb.storage.backend import Backend, Creation, ListedObject, Moved, StoredObject, ignore_moved

Result = TypeVar("Result")


class Wrapper:
    """A backend that passes every call on to another one, and keeps its contract: see Backend.

    Every operation goes through `run()`. A wrapper that changes all of them alike overrides that method alone; one
    that changes a single operation overrides the method of that name. Several threads may use it at once.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def run(self, operation: str, act: Callable[[Moved], Result], moved: Moved = ignore_moved) -> Result:
        """Call `act` and give its result.

        `operation` is for the log, `upload volumes/NAME` for example. `act` calls the wrapped backend and reports
        the bytes that move to the callback it gets; `moved` is the callback of the caller.
        """
        return act(moved)

    @property
    def address(self) -> str:
        return self.backend.address

    @property
    def spool(self) -> Path | None:
        return self.backend.spool

    def upload(self, name: str, source: Path, sha256: str, moved: Moved = ignore_moved) -> StoredObject:
        return self.run(f"upload {name}", lambda count: self.backend.upload(name, source, sha256, count), moved)

    def upload_new(self, name: str, source: Path, sha256: str) -> Creation:
        return self.run(f"upload {name}", lambda _: self.backend.upload_new(name, source, sha256))

    def download(self, name: str, destination: Path, moved: Moved = ignore_moved) -> None:
        self.run(f"download {name}", lambda count: self.backend.download(name, destination, count), moved)

    def read(self, name: str, limit: int) -> bytes:
        return self.run(f"read {name}", lambda _: self.backend.read(name, limit))

    def list(self, prefix: str) -> tuple[ListedObject, ...]:
        return self.run(f"list {prefix}", lambda _: self.backend.list(prefix))

    def stat(self, name: str) -> StoredObject | None:
        return self.run(f"stat {name}", lambda _: self.backend.stat(name))

    def delete(self, name: str) -> None:
        self.run(f"delete {name}", lambda _: self.backend.delete(name))

    def tidy(self) -> None:
        self.run("tidy", lambda _: self.backend.tidy())

    def close(self) -> None:
        self.backend.close()

"""The restore that did not end, and what it has still to do: commands to run and services to restart.

Touches one file of state. A restore that is killed before its end is repeated; the repeated one finds the files right,
and would otherwise run and restart nothing. A command that fails stays on the list until it succeeds.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tklb.base.fs import write_atomic
from tklb.base.json import read_state, write_state
from tklb.diff import mtree
from tklb.errors import printable
from tklb.lazy_dataclass import dataclass
from tklb.model.files import FileEntry
from tklb.model.plan import COMING, Command, Step, StepKind


@dataclass(frozen=True, slots=True)
class Remainder:
    """`packages` are new ones whose services did not start yet, `services` those that did not restart yet.

    `snapshot` is what a restore began to bring back that did not end; "" if the last one ended. `is_whole`: no option
    limited it. `leftovers` are the versions of configuration files that lay beside others before any package came; None
    if none came.
    """

    commands: tuple[Command, ...] = ()
    packages: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    snapshot: str = ""
    is_whole: bool = True
    leftovers: tuple[str, ...] | None = None


class RemainderList:
    """The list on disk; without a path it is nowhere. Raises OSError, NoSpace where it cannot be written."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._now = read_remainder(path) if path else Remainder()

    def begin(self, snapshot: str, *, is_whole: bool) -> None:
        """Remember that a restore begins. A limited one does not replace a whole one that did not end."""
        if is_whole or not self.has_whole:
            self._write(replace(self._now, snapshot=snapshot, is_whole=is_whole))

    def end(self, *, is_whole: bool) -> None:
        """Remember that the restore has ended. A limited one is not the end of a whole one."""
        if is_whole or not self.has_whole:
            self._write(replace(self._now, snapshot="", is_whole=True))

    @property
    def has_whole(self) -> bool:
        """Whether a restore of everything did not end."""
        return bool(self._now.snapshot) and self._now.is_whole

    def note_packages(self, steps: Iterable[Step], unfinished: Iterable[str] = ()) -> None:
        """Remember packages before they are installed, and those whose installation was interrupted."""
        names = {step.item.decode().partition(":")[0] for step in steps if step.kind in COMING} | {*unfinished}
        self._write(replace(self._now, packages=tuple(sorted({*self._now.packages, *names}))))

    def note_leftovers(self, found: frozenset[bytes]) -> frozenset[bytes]:
        """Remember what lies beside configuration files before packages come; give what an earlier run remembered."""
        if self._now.leftovers is None:
            self._write(replace(self._now, leftovers=tuple(sorted(map(os.fsdecode, found)))))
        return frozenset(map(os.fsencode, self._now.leftovers or ())) if self._path else found

    def note_rest(self, steps: Iterable[Step]) -> None:
        """Remember the commands and services of a plan before the files change that they depend on."""
        every = tuple(steps)
        services = tuple(step.item.decode() for step in every if step.kind is StepKind.SERVICE)
        self._write(replace(self._now, commands=tuple(s.command for s in every if s.command), services=services))

    def forget_command(self, command: Command) -> None:
        self._write(replace(self._now, commands=tuple(c for c in self._now.commands if c.name != command.name)))

    def forget_services(self) -> None:
        self._write(replace(self._now, packages=(), services=(), leftovers=None))

    def _write(self, now: Remainder) -> None:
        if now == self._now or self._path is None:
            return
        self._now = now
        if now == Remainder():
            self._path.unlink(missing_ok=True)
        else:
            write_state(self._path, {**asdict(now), "commands": list(map(_format_command, now.commands))})


@contextmanager
def remember_restore(path: Path, snapshot: str, *, is_whole: bool) -> Iterator[None]:
    """Keep in mind that a restore runs, until the block ends well."""
    RemainderList(path).begin(snapshot, is_whole=is_whole)
    yield
    RemainderList(path).end(is_whole=is_whole)


def read_remainder(path: Path) -> Remainder:
    """Read the list; an absent or damaged one is empty."""
    return read_state(path, _parse, Remainder())


def describe_interruption(path: Path) -> tuple[str, ...]:
    """Name the restore that did not end; nothing where there is none."""
    snapshot = read_remainder(path).snapshot
    return (f"the restore of {printable(snapshot)} was interrupted",) if snapshot else ()


def _parse(noted: dict[str, Any]) -> Remainder:
    return Remainder(
        tuple(map(_parse_command, noted["commands"])),
        tuple(map(str, noted["packages"])),
        tuple(map(str, noted["services"])),
        str(noted.get("snapshot", "")),
        bool(noted.get("is_whole", True)),
        tuple(map(str, noted["leftovers"])) if noted.get("leftovers") is not None else None,
    )


def _parse_command(noted: dict[str, Any]) -> Command:
    return Command(
        name=str(noted["name"]),
        argv=tuple(map(str, noted["argv"])),
        inputs=tuple(path.encode("utf-8", "surrogateescape") for path in noted["inputs"]),
        takes_inputs=bool(noted["takes_inputs"]),
        seconds=int(noted["seconds"]),
    )


def _format_command(command: Command) -> dict[str, Any]:
    return {**asdict(command), "inputs": [path.decode("utf-8", "surrogateescape") for path in command.inputs]}


def add_entries(listing: Path, entries: Iterable[FileEntry]) -> None:
    """Add entries to a listing of this machine's state; a newer one replaces that of the same path."""
    found = {entry.path: entry for entry in entries}
    if not found:
        return
    if listing.exists():
        with listing.open("rb") as stream:
            found = {entry.path: entry for entry in mtree.parse(stream)} | found
    write_atomic(listing, mtree.HEADER + b"".join(mtree.format_entry(found[path]) for path in sorted(found)))

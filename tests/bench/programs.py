"""The programs that are compared: how each backs up and restores the same machine.

Each takes the running machine and a folder of its own, and gives commands for `cost`. tklb runs inside the machine; the
others run beside it and take its whole root, tklb's own folders excepted. All storage is on the same disk.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Protocol

from tests.bench.cost import Command
from tests.lab.appliance import Appliance, clone
from tests.lab.box import ENVIRONMENT
from tests.lab.repository import repository_layer

LEFT_OUT = ("proc", "sys", "dev", "run", "tmp", "opt/tklb", "var/lib/tklb", "var/cache/tklb", "var/log/tklb")
PASSWORD = "correct horse battery staple"
NAMED = 3  # done, and what could not be brought back is named: a package that no source offers
PAGE = "var/www/html/shop.html"  # the owner wrote it


class Program(Protocol):
    """One way to back a machine up. `stored` is the folder that the backups are in."""

    name: ClassVar[str]
    stored: Path

    def __init__(self, machine: Appliance, folder: Path) -> None: ...

    def prepare(self) -> None:
        """Do what is done once in the life of a repository."""

    def backup(self) -> Command: ...

    def restoring(self) -> contextlib.AbstractContextManager[Command]:
        """The command that brings the newest backup back; when the `with` ends, what it brought back is gone."""


class Tklb:
    name: ClassVar[str] = "tklb"

    def __init__(self, machine: Appliance, folder: Path) -> None:
        self._machine = machine
        self._bind = {folder: "/mnt/bench"}
        self.stored = folder / "target"

    def prepare(self) -> None:
        self._machine.run(["tklb", "init", "--target", "file:///mnt/bench/target"])

    def backup(self) -> Command:
        return _inside(self._machine, "tklb", "backup")

    @contextlib.contextmanager
    def restoring(self) -> Iterator[Command]:
        self._machine.run(["tklb", "key", "escrow", "--no-passphrase", "/mnt/bench/key"])
        restore = ("tklb", "restore", "--target", "file:///mnt/bench/target", "--key", "/mnt/bench/key", "--yes")
        with clone("lamp", hostname="b", tklb=True, on="disk", binds=self._bind, layers=[repository_layer()]) as b:
            yield _inside(b, *restore, accept=(0, NAMED))
            _expect_page(b.root)
        (self.stored.parent / "key").unlink()


class _OfTheRoot:
    """What the programs have in common that take a whole root."""

    def __init__(self, machine: Appliance, folder: Path) -> None:
        self._root = machine.root
        self._folder = folder
        self.stored = folder / "repository"
        self._restored = folder / "restored"

    @contextlib.contextmanager
    def _emptied(self) -> Iterator[Path]:
        self._restored.mkdir()
        yield self._restored
        _expect_page(self._restored)
        shutil.rmtree(self._restored)


class Restic(_OfTheRoot):
    """restic, its cache its own."""

    name: ClassVar[str] = "restic"

    def prepare(self) -> None:
        _once(self._command("init"))

    def backup(self) -> Command:
        excludes = [f"--exclude={self._root}/{name}" for name in LEFT_OUT]
        return self._command("backup", "--one-file-system", *excludes, ".")

    @contextlib.contextmanager
    def restoring(self) -> Iterator[Command]:
        with self._emptied() as folder:
            yield self._command("restore", "latest", "--target", folder)

    def _command(self, *words: str | Path) -> Command:
        env = {"RESTIC_PASSWORD": PASSWORD, "RESTIC_CACHE_DIR": os.fspath(self._folder / "cache")}
        return Command(("restic", f"--repo={self.stored}", *words), env, self._root)


class Borg(_OfTheRoot):
    """borg with zstd, as restic has it."""

    name: ClassVar[str] = "borg"

    def prepare(self) -> None:
        _once(self._command("init", "--encryption=repokey-blake2", self.stored))

    def backup(self) -> Command:
        excludes = [f"--exclude=sh:{name}/**" for name in LEFT_OUT]
        archive = f"{self.stored}::{{utcnow:%s.%f}}"
        return self._command(
            "create", "--one-file-system", "--compression=zstd", *excludes, archive, ".", cwd=self._root
        )

    @contextlib.contextmanager
    def restoring(self) -> Iterator[Command]:
        listed = self._command("list", "--last=1", "--format={archive}", self.stored)
        name = subprocess.run(listed.argv, env=os.environ | dict(listed.env), capture_output=True, check=True).stdout
        with self._emptied() as folder:
            yield self._command("extract", "--numeric-ids", f"{self.stored}::{name.decode()}", cwd=folder)

    def _command(self, *words: str | Path, cwd: Path = Path("/")) -> Command:
        env = {"BORG_PASSPHRASE": PASSWORD, "BORG_BASE_DIR": os.fspath(self._folder)}
        return Command(("borg", *words), env, cwd)


class Duplicity(_OfTheRoot):
    """duplicity as it comes."""

    name: ClassVar[str] = "duplicity"

    def prepare(self) -> None:
        (self._folder / "gnupg").mkdir(mode=0o700)

    def backup(self) -> Command:
        excludes = [f"--exclude={self._root}/{name}" for name in LEFT_OUT]
        return self._command("backup", "--exclude-other-filesystems", *excludes, self._root, f"file://{self.stored}")

    @contextlib.contextmanager
    def restoring(self) -> Iterator[Command]:
        with self._emptied() as folder:
            yield self._command("restore", "--numeric-owner", f"file://{self.stored}", folder)

    def _command(self, verb: str, *words: str | Path) -> Command:
        env = {"PASSPHRASE": PASSWORD, "GNUPGHOME": os.fspath(self._folder / "gnupg")}
        archive = f"--archive-dir={self._folder / 'archive'}"
        return Command((DUPLICITY, verb, archive, *words), env)


DUPLICITY = os.fspath(Path(__file__).parents[2] / ".venv/bin/duplicity")
PROGRAMS: tuple[type[Program], ...] = (Tklb, Restic, Borg, Duplicity)


def versions() -> str:
    """The others' own words."""
    asked = (["restic", "version"], ["borg", "--version"], [DUPLICITY, "--version"])
    said = (subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split() for argv in asked)
    return ", ".join(" ".join(words[:2]) for words in said)


def _inside(machine: Appliance, *words: str, accept: tuple[int, ...] = (0,)) -> Command:
    return Command(tuple(machine.argv(words)), ENVIRONMENT, accept=accept)


def _once(command: Command) -> None:
    subprocess.run(command.argv, env=os.environ | dict(command.env), cwd=command.cwd, capture_output=True, check=True)


def _expect_page(root: Path) -> None:
    if not (root / PAGE).is_file():
        raise RuntimeError(f"the restored machine has no {PAGE}")

"""Machines whose owner has backups, at the cost of a clone; how tklb is asked there, and what must never be left.

`server_a()` is machine A: nasty files, people, and two sealed snapshots in /mnt/target, its key file as /mnt/key.
`server_b()` is machine B, which differs as fresh machines do and has A's /mnt. Touches clones only.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.lab import fixture_fs, fresh_server, nasty, used_server
from tests.lab.appliance import Appliance, clone, stack
from tests.lab.box import Box
from tests.lab.checker import Facts, Mismatch, compare, record
from tests.lab.entry_names import snapshot_in_name
from tests.lab.fixture_fs import FixtureFs
from tests.lab.roots import digest_of, layer

TARGET = "file:///mnt/target"
FROM_A = ("--target", TARGET, "--key", "/mnt/key")
SCOPE = ("/etc", "/home", "/root", "/srv", "/usr/local", "/var/spool", "/var/mail", "/var/local")
OWN = ("/var/lib/tklb", "/var/cache/tklb", "/var/log/tklb")
# What a run that fails may touch: its log, how it ended, the lock, what it has seen, and caches.
NOTES = (
    "/var/lib/tklb", "/var/lib/tklb/last-run.json", "/var/lib/tklb/lock", "/var/lib/tklb/ledger**",
    "/var/lib/tklb/index.mtree", "/var/log/tklb**", "/var/cache/tklb**",
)  # fmt: skip
KILLED = 128 + signal.SIGKILL
_SOURCES = digest_of(*(str(module.__file__) for module in (nasty, fixture_fs, used_server, fresh_server)), __file__)
_TEMPORARY = re.compile(r"(\.new|\.part|\.tklb[^/]*|/\.incoming-[^/]*|passwd\+|group\+|shadow\+)$")
_TEMPORARY_FOLDERS = ("var/lib/tklb/stage", "var/lib/tklb/restore", "var/cache/tklb/work", "var/cache/tklb/pull-a")

# ---------------------------------------------------------------- machines


def live(box: Box) -> None:
    """Two days in the life of A, a snapshot after each."""
    fs = FixtureFs(box.root)
    used_server.add_people(box)
    box.run(["useradd", "--system", "--user-group", "acme-agent"])
    nasty.make(fs)
    fs.file(b"/etc/motd", b"Welcome to Alice's server\n")
    fs.file(b"/usr/local/sbin/become", b"#!/bin/sh\nexit 1\n", 0o4750, "bob")
    os.unlink(fs.path(b"/etc/logrotate.d/alternatives"))
    for number in range(40):
        fs.file(b"/srv/data/%02d" % number, b"%d\n" % number * 200, owner="worker")
    box.run(["tklb", "init", "--target", TARGET])
    fs.append(b"/etc/tklb/overrides", b"-/mnt\n")  # where the tests keep what they compare with
    box.run(["tklb", "key", "escrow", "--no-passphrase", "/mnt/key"])
    box.run(["tklb", "backup"])
    note_facts(box)
    fs.append(b"/srv/data/01", b"one more line\n")
    fs.file(b"/srv/data/new", b"new\n", owner="alice")
    os.unlink(fs.path(b"/srv/data/02"))
    os.chmod(fs.path(b"/srv/data/03"), 0o600)
    box.run(["tklb", "backup"])
    note_facts(box)


def note_facts(box: Box) -> None:
    """Keep what the machine is like beside the snapshot it has just taken."""
    (box.root / f"mnt/facts-{snapshots(box)[-1]}").write_text(json.dumps(record(box.root, SCOPE)))


def server_a() -> Appliance:
    """A, for a `with`."""
    return clone("core", hostname="a", tklb=True, layers=[backup_layer()])


def change_something(machine: Box) -> None:
    """So that the next backup has something to do: a new file that no packing makes smaller, and an edited one."""
    FixtureFs(machine.root).file(b"/srv/data/today", os.urandom(1_000_000))
    FixtureFs(machine.root).append(b"/srv/data/07", b"edited\n")


@contextlib.contextmanager
def server_b(name: str = "core") -> Iterator[Appliance]:
    """B, of the same profile unless another is named."""
    other = layer(f"other-{name} {_SOURCES}", stack(name, "b"), fresh_server.make_fresh_server, "b")
    with clone(name, hostname="b", tklb=True, layers=[other]) as machine:
        shutil.copytree(backup_layer() / "mnt", machine.root / "mnt", dirs_exist_ok=True)
        FixtureFs(machine.root).append(b"/etc/tklb/overrides", b"-/mnt\n")
        yield machine


def backup_layer() -> Path:
    return layer(f"backup {_SOURCES}", stack("core", "a", tklb=True), live, "a")


# ---------------------------------------------------------------- asking


@dataclass(frozen=True)
class Told:
    """What a command said."""

    status: int
    stdout: str
    stderr: str

    @property
    def value(self) -> Any:
        """The one JSON value that stdout is."""
        return json.loads(self.stdout)


def tklb(machine: Box, *words: str | bytes, env: Mapping[str, str] | None = None) -> Told:
    done = machine.run(["tklb", *words], check=False, env=env, timeout=120)
    return Told(done.returncode, done.stdout, done.stderr)


def done(machine: Box, *words: str | bytes, status: int = 0) -> Told:
    """The command, which must end with `status`."""
    told = tklb(machine, *words)
    assert told.status == status, (words, told)
    return told


def refused(machine: Box, code: int, name: str, *words: str, says: str = "") -> str:
    """The command fails as all failures must: status, one line and a hint on stderr, the same as JSON on stdout."""
    told = tklb(machine, "--json", *words)
    assert told.status == code, told
    error = told.value["error"]
    assert error.keys() == {"code", "name", "message", "hint"}
    assert (error["code"], error["name"]) == (code, name)
    assert told.stderr.endswith(f"tklb: {error['message']}\n  hint: {error['hint']}\n"), told.stderr
    assert len(re.findall("^(tklb: |Traceback)", told.stderr, re.MULTILINE)) == 1, told.stderr
    assert "\n" not in error["message"] + error["hint"]
    assert error["hint"]
    assert says in error["message"], error
    return str(error["message"])


class Running:
    """A command that goes on while the test does something to it; `before` is a program that starts it by exec(2).

    `pid` is the host's number of the process itself.
    """

    def __init__(self, machine: Box, *words: str, before: tuple[str, ...] = ()) -> None:
        self._process = machine.popen(
            [*before, "tklb", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        assert soon(lambda: children.read_text() != "")
        self.pid = int(children.read_text())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.send(signal.SIGKILL)
        self._process.communicate()

    def send(self, number: signal.Signals) -> None:
        """Send a signal. nsenter(1), between us and the process, stops and goes on with it."""
        os.kill(self.pid, number)
        if number in (signal.SIGCONT, signal.SIGKILL):
            os.kill(self._process.pid, signal.SIGCONT)

    def when(self, is_so: Callable[[], bool], number: signal.Signals) -> Self:
        """Send a signal at the moment something is so; a run that is over before is a failure of the test."""
        while not is_so():
            assert self._process.poll() is None, self._process.communicate()
            time.sleep(0.0005)
        self.send(number)
        return self

    def end(self) -> Told:
        out, err = self._process.communicate(timeout=120)
        status = self._process.returncode
        return Told(128 - status if status < 0 else status, out, err)


def soon(is_so: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether something becomes so in that time."""
    limit = time.monotonic() + seconds
    while not is_so() and time.monotonic() < limit:
        time.sleep(0.01)
    return is_so()


# ---------------------------------------------------------------- judging


def snapshots(machine: Box, target: str = "mnt/target") -> list[str]:
    """Ids of the sealed snapshots, by the names of their ledger entries."""
    names = sorted(entry.name for entry in (machine.root / target / "ledger").iterdir())
    return list(filter(None, map(snapshot_in_name, names)))


def every_file(machine: Box, *tops: str) -> dict[str, tuple[object, ...]]:
    """Whatever a write would change, of everything on the machine: inode, mode, owner, size, times but the last access.

    A folder's times and link count are left out, as a temporary file moves them. `tops` are where to look.
    """
    found: dict[str, tuple[object, ...]] = {}
    root = os.fspath(machine.root)
    todo = [root + top for top in tops]
    while todo:
        with contextlib.suppress(FileNotFoundError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                is_folder = stat.S_ISDIR(status.st_mode)
                facts = (status.st_mode, status.st_uid, status.st_gid)
                more = () if is_folder else (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                found[entry.path[len(root) :]] = (*facts, *more)
                if is_folder:
                    todo.append(entry.path)
    return found


@contextlib.contextmanager
def untouched(machine: Box, *but: str, whole: bool = False) -> Iterator[None]:
    """Nothing on the machine changes in this block, `but` what is named (`/x**`: x and all below).

    Of /usr, which is nearly all of a machine, only /usr/local is looked at unless the `whole` is.
    """
    parts = [path for path in machine.root.iterdir() if path.is_dir() and not path.is_symlink() and path.name != "usr"]
    tops = [""] if whole else ["/usr/local", *(f"/{path.name}" for path in parts)]
    before = every_file(machine, *tops)
    yield
    after = every_file(machine, *tops)
    moved = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    wrongly = sorted(path for path in moved if not _is_named(path, but))
    assert not wrongly, wrongly


def _is_named(path: str, names: tuple[str, ...]) -> bool:
    return any(path == name or (name.endswith("**") and path.startswith(name[:-2])) for name in names)


def left_overs(machine: Box) -> list[str]:
    """Processes and temporary files that no run may leave behind."""
    soon(lambda: not processes(machine), 5)
    top = os.fspath(machine.root)
    found = [path for path in every_file(machine, *SCOPE, *OWN, "/mnt") if _TEMPORARY.search(path)]
    folders = [name for name in _TEMPORARY_FOLDERS if os.path.lexists(f"{top}/{name}")]
    return [*processes(machine), *found, *folders, *os.listdir(f"{top}/tmp"), *os.listdir(f"{top}/var/tmp")]


def processes(machine: Box) -> list[str]:
    space = os.readlink(f"/proc/{machine.pid}/ns/pid")
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(folder / "ns/pid") == space and int(folder.name) != machine.pid:
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [words for words in found if words]


def decoded(machine: Box, snapshot: str, status: int = 0) -> Facts:
    """What `restore --into` gives of a snapshot, owners by the machine's own names."""
    place = machine.root / "var/cache/look"
    shutil.rmtree(place, ignore_errors=True)
    done(machine, "restore", snapshot, "--into", "/var/cache/look", status=status)
    (place / "etc").mkdir(exist_ok=True)
    for book in ("passwd", "group"):
        shutil.copy(machine.root / "etc" / book, place / "etc" / book)
    return record(place, SCOPE)


def facts_of(machine: Box, snapshot: str | None = None) -> Facts:
    """What A was like when it took a snapshot; the latest if none is named."""
    facts: Facts = json.loads((machine.root / f"mnt/facts-{snapshot or snapshots(machine)[-1]}").read_text())
    return facts


def differences(found: Facts, wanted: Facts, *but: str) -> list[Mismatch]:
    """What differs between files that came back and what they were, `but` what is named.

    All of /srv is the owner's, folders' times too. Account files are merged, not copied; the install state's
    /etc/protocols, whose second name is ours, is no part.
    """
    paths = {path for path in {*found, *wanted} if path in found or path.startswith("/srv/")}
    books = ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")
    allowed = [f"/etc/{book}{end}" for book in books for end in ("", "-")]
    return compare(
        *({path: fact for path, fact in facts.items() if path in paths} for facts in (wanted, found)),
        allowed=[*allowed, *but, ("/etc/protocols-of-ours", "hard links")],
        folder_times=lambda path: path.startswith("/srv/"),
    )


def check_replacement(b: Box) -> None:
    """B has what A had, but for what stays with a machine."""
    wanted, found = facts_of(b), record(b.root, SCOPE)
    found = {path: fact for path, fact in found.items() if path in wanted or path.startswith("/srv/")}
    assert differences(found, wanted, *fresh_server.identity()) == []
    assert not (b.root / "etc/logrotate.d/alternatives").exists()

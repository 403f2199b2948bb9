"""Ways out of the root, each tried on a real file system: nothing outside may change. Needs root."""

import hashlib
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tklb.diff.attributes.xattrs import ACLS
from tklb.host.files.live_files import LiveFiles
from tklb.host.files.move_object import temporary_name
from tklb.host.files.openat import is_guarded
from tklb.host.files.write_entry import FileWriter
from tklb.host.remake import PostfixMap, _make_map
from tklb.model.files import FileEntry

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SWAPS, ROUNDS = 10_000, 300
CONTENT = b"escaped"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Trap:
    """A root full of links that lead out, a stage with odd things on it, and an outside to watch."""

    def __init__(self, folder: Path) -> None:
        self.root, self.stage, self.outside = folder / "root", folder / "stage", folder / "outside"
        for path in (self.root / "etc", self.root / "home/eve", self.stage / "etc", self.outside / "folder"):
            path.mkdir(parents=True)
        (self.outside / "secret").write_bytes(b"secret")
        (self.outside / "same").write_bytes(CONTENT)
        links = {
            "absolute": self.outside, "relative": Path("../outside"), "up": Path(".."),
            "chain": Path("absolute"), "deep": Path("absolute/folder"), "secret": self.outside / "secret",
            "same": self.outside / "same", "new": self.outside / "new", "loop": Path("loop"),
            "proc": Path("/proc/self/root") / str(self.outside)[1:],
        }  # fmt: skip
        for name, target in links.items():
            (self.root / name).symlink_to(target)
        (self.root / "home/eve" / os.fsdecode(temporary_name(b"x"))).symlink_to(self.outside / "new")
        (self.stage / "absolute").symlink_to(self.outside)
        (self.stage / "etc/stolen").symlink_to(self.outside / "secret")
        os.mkfifo(self.stage / "etc/pipe")
        os.link(self.outside / "same", self.stage / "etc/linked")
        (self.stage / "etc/x").write_bytes(CONTENT)
        for folder in ("home/eve", "relative", "up/outside", "chain", "proc"):
            (self.stage / folder).mkdir(parents=True)
            (self.stage / folder / "new").write_bytes(CONTENT)
        (self.stage / "home/eve/x").write_bytes(CONTENT)

    def applier(self) -> FileWriter:
        return FileWriter(os.fsencode(self.root), [os.fsencode(self.stage)])

    def seen_outside(self) -> list[object]:
        """Everything beside root and stage, with all that a write, chmod, chown, link or deletion would move."""
        found: list[object] = [sorted(os.listdir(self.outside.parent))]
        for where, folders, files in os.walk(self.outside):
            for path in [where, *(os.path.join(where, name) for name in sorted(folders + files))]:
                status = os.lstat(path)
                content = Path(path).read_bytes() if os.path.isfile(path) else b""
                found.append((path, status.st_mode, status.st_uid, status.st_nlink, status.st_mtime_ns, content))
                found.append((status.st_ctime_ns, tuple(os.listxattr(path, follow_symlinks=False))))
        return found


def file(path: bytes, **facts: object) -> FileEntry:
    return FileEntry(path, "file", 0o4777, 1000, 1000, size=7, mtime_ns=1, sha256=DIGEST, xattrs=())._replace(**facts)


def node(path: bytes, kind: str, **facts: object) -> FileEntry:
    acl = ((ACLS[0], bytes.fromhex("0200000001000700ffffffff04000700ffffffff20000700ffffffff")),)
    return FileEntry(path, kind, 0o777, 1000, 1000, mtime_ns=1, xattrs=acl if kind == "dir" else ())._replace(**facts)


Attempt = Callable[[FileWriter], object]

ODD_PATHS = [
    b"/../outside/new", b"/etc/../../outside/new", b"/..", b"/etc/..", b"../outside/new", b"outside/new", b"",
    b"/etc/./x", b"/.", b"//outside", b"/etc//x", b"/etc/x/", b"/etc/x\0y", b"/etc/\0", b"etc/x",
]  # fmt: skip
OUTWARD = [b"/absolute", b"/relative", b"/up/outside", b"/chain", b"/proc"]
FINAL = [b"/secret", b"/absolute", b"/chain", b"/loop"]

ATTEMPTS: dict[str, Attempt] = {
    **{f"write to {path!r}": lambda a, path=path: a.write(file(path)) for path in ODD_PATHS},
    **{f"folder at {path!r}": lambda a, path=path: a.write(node(path, "dir")) for path in ODD_PATHS[:4]},
    **{f"write below {path!r}": lambda a, path=path: a.write(file(path + b"/new")) for path in OUTWARD},
    **{f"folder below {path!r}": lambda a, path=path: a.write(node(path + b"/n/m", "dir")) for path in OUTWARD},
    **{f"delete below {path!r}": lambda a, path=path: a.delete(path + b"/secret") for path in OUTWARD},
    **{f"metadata below {path!r}": lambda a, path=path: a.set_metadata(file(path + b"/secret")) for path in OUTWARD},
    **{f"metadata of {path!r}": lambda a, path=path: a.set_metadata(file(path)) for path in FINAL},
    **{f"folder over {path!r}": lambda a, path=path: a.write(node(path, "dir")) for path in FINAL},
    **{f"time of {path!r}": lambda a, path=path: a.set_folder_time(path, 1) for path in (*OUTWARD, *FINAL)},
    "time of a folder in an outward one": lambda a: a.set_folder_time(b"/absolute/folder", 1),
    "link below an outward folder": lambda a: a.link(file(b"/absolute/new"), b"/etc/x"),
    "hard link to what a link leads to": lambda a: a.link(file(b"/etc/x"), b"/same"),
    "hard link through an outward folder": lambda a: a.link(file(b"/etc/x"), b"/absolute/same"),
    "hard link by an odd path": lambda a: a.link(file(b"/etc/x"), b"/../outside/same"),
    "write over a link to a file": lambda a: a.write(file(b"/secret")),
    "write over a link to nothing": lambda a: a.write(file(b"/new")),
    "node below an outward folder": lambda a: a.write(node(b"/absolute/pipe", "fifo")),
    "link node below an outward folder": lambda a: a.write(node(b"/absolute/l", "link", link=b"x")),
    "device through a chain": lambda a: a.write(node(b"/chain/null", "char", device=(1, 3))),
    "planted temporary name": lambda a: a.write(file(b"/home/eve/x", sparse=True)),
    "planted temporary name, node": lambda a: a.write(node(b"/home/eve/x", "fifo")),
    "stage content behind a link": lambda a: a.write(file(b"/etc/stolen")),
    "stage content in a linked folder": lambda a: a.write(file(b"/absolute/same")),
    "stage content that is a pipe": lambda a: a.write(file(b"/etc/pipe")),
    "stage content with a name outside": lambda a: a.write(file(b"/etc/linked")),
    "deletion of the root": lambda a: a.delete(b"/"),
    "a file as the root": lambda a: a.write(file(b"/")),
}


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_no_way_leads_out(tmp_path: Path, attempt: Attempt) -> None:
    trap = Trap(tmp_path)
    before = trap.seen_outside()
    with trap.applier() as applier:
        attempt(applier)
    assert trap.seen_outside() == before


def test_there_are_forty_attempts() -> None:
    assert len(ATTEMPTS) >= 40


def test_a_link_in_the_way_of_a_file_is_replaced_not_followed(tmp_path: Path) -> None:
    trap = Trap(tmp_path)
    (trap.stage / "secret").write_bytes(CONTENT)
    with trap.applier() as applier:
        assert applier.write(file(b"/secret")) == ()
    assert (trap.root / "secret").read_bytes() == CONTENT
    assert (trap.outside / "secret").read_bytes() == b"secret"


def test_the_view_for_the_plan_never_looks_through_a_link(tmp_path: Path) -> None:
    trap = Trap(tmp_path)
    (trap.root / "etc/plain").write_bytes(b"plain text")
    os.mkfifo(trap.root / "pipe")
    with LiveFiles(os.fsencode(trap.root)) as files:
        for path in (*OUTWARD, b"/etc/..", b"/up", b"relative"):
            assert files.entry(path + b"/secret") is None
            assert files.names(path) == ()
            assert files.head(path + b"/secret", 6) == b""
        assert files.digest(b"/same", "sha256") is None
        assert files.head(b"/same", 6) == b""
        assert files.head(b"/pipe", 6) == b""
        assert files.head(b"/etc/plain", 5) == b"plain"
        assert files.find_barrier(b"/absolute/folder/x") == b"/absolute"
        assert files.find_barrier(b"/etc/missing/x") is None
        entry = files.entry(b"/absolute")
        assert entry is not None
        assert entry.kind == "link"


SWAPPER = """
import ctypes, os, sys
one, other, count = os.fsencode(sys.argv[1]), os.fsencode(sys.argv[2]), int(sys.argv[3])
exchange = ctypes.CDLL(None, use_errno=True).renameat2
for _ in range(count):
    assert exchange(-100, one, -100, other, 2) == 0, ctypes.get_errno()
"""


@pytest.mark.slow
def test_a_race_of_swapped_folders_never_leads_out(tmp_path: Path) -> None:
    """Another process swaps a folder with a link to the outside, while every kind of deed goes on in it."""
    trap = Trap(tmp_path)
    home, aside = trap.root / "home/eve", trap.root / "aside"
    aside.symlink_to(trap.outside)
    before = trap.seen_outside()
    outcomes: set[bool] = set()
    rounds = 0
    while rounds < ROUNDS:
        swapper = subprocess.Popen(["/usr/bin/python3", "-c", SWAPPER, home, aside, str(SWAPS)])
        try:
            while swapper.poll() is None:
                outcomes |= one_round(trap)
                rounds += 1
        finally:
            swapper.kill()
            assert swapper.wait() == 0
    assert outcomes == {True, False}
    assert trap.seen_outside() == before


def one_round(trap: Trap) -> set[bool]:
    """Do all there is to do in the folder; say whether deeds were done or refused."""
    done = set()
    for sparse in (False, True):
        (trap.stage / "home/eve/secret").write_bytes(CONTENT)
        with trap.applier() as applier:  # anew each time, so that no folder is open yet
            done.add(applier.write(file(b"/home/eve/secret", sparse=sparse)) == ())
            applier.set_metadata(file(b"/home/eve/secret"))
            applier.write(node(b"/home/eve/folder", "dir"))
            applier.set_folder_time(b"/home/eve/folder", 1)
            applier.link(file(b"/home/eve/same"), b"/home/eve/secret")
            applier.write(node(b"/home/eve/new", "fifo"))
            for name in (b"new", b"same", b"secret", b"folder"):
                applier.delete(b"/home/eve/" + name)
    return done


def test_a_race_of_swapped_names_never_changes_what_they_point_to(tmp_path: Path) -> None:
    """A thread swaps a file for a link to the secret, while the metadata of the name is being set."""
    trap = Trap(tmp_path)
    before = trap.seen_outside()
    done = threading.Event()
    name = trap.root / "home/eve/x"
    (trap.root / "plain").touch()

    def swap() -> None:
        number = 0
        while not done.is_set():
            number += 1
            aside = f"{name}.{number % 2}"
            if number % 2:
                os.link(trap.root / "plain", aside)
            else:
                os.symlink(trap.outside / "secret", aside)
            os.rename(aside, name)
            if os.path.lexists(aside):
                os.unlink(aside)

    thread = threading.Thread(target=swap)
    thread.start()
    outcomes = set()
    try:
        with trap.applier() as applier:
            for number in range(100_000):
                outcomes.add(applier.set_metadata(file(b"/home/eve/x")) == ())
                if number > 3000 and len(outcomes) == 2:
                    break
    finally:
        done.set()
        thread.join()
    assert outcomes == {True, False}
    assert trap.seen_outside() == before


def test_map_of_root_is_not_made_where_a_user_could_put_a_link_in_its_place(tmp_path: Path) -> None:
    """postmap(1) makes the map as the owner of its source, and follows links."""
    folder, victim = Path("/root") / f"lists-{os.getpid()}", tmp_path / "victim"
    folder.mkdir()
    try:
        assert is_guarded(bytes(folder))
        source = folder / "aliases"
        source.write_text("a: b\n")
        source.with_name("aliases.db").symlink_to(victim)
        os.chown(folder, 1511, 1511)
        assert not is_guarded(bytes(folder))
        said = _make_map(b"/etc/postfix", PostfixMap("postmap", b"hash", bytes(source)), 5)
        assert "may write to the folder" in said
        assert not victim.exists()
        assert not is_guarded(bytes(folder / "absent"))
    finally:
        subprocess.run(["rm", "-r", folder], check=True)

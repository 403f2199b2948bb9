"""Entries put in place on real file systems: needs root, makes and mounts things in a temporary folder only."""

import hashlib
import os
import socket
import stat
import subprocess
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from tklb.diff.attributes.xattrs import ACLS, CAPABILITY
from tklb.errors import NoSpace
from tklb.host.files.live_files import LiveFiles
from tklb.host.files.move_object import temporary_name
from tklb.host.files.write_entry import FileWriter
from tklb.model.files import FileEntry

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

MOMENT = 1_600_000_000_123_456_789
CHOWN_CAPABILITY = bytes.fromhex("0100000201000000000000000000000000000000")  # cap_chown=ep


class Ground:
    """A root to change and a stage to take from."""

    def __init__(self, folder: Path) -> None:
        self.root, self.stage, self.outside = folder / "root", folder / "stage", folder / "outside"
        for path in (self.root, self.stage, self.outside):
            path.mkdir(exist_ok=True)
        os.chmod(self.stage, 0o700)

    def applier(self) -> FileWriter:
        return FileWriter(os.fsencode(self.root), [os.fsencode(self.stage)])

    def staged(self, path: bytes, content: bytes, **facts: object) -> FileEntry:
        """An entry whose content lies on the stage."""
        place = os.fsencode(self.stage) + path
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "wb") as stream:
            stream.write(content)
        base = FileEntry(path, "file", 0o644, 0, 0, size=len(content), mtime_ns=MOMENT, xattrs=())
        return base._replace(sha256=hashlib.sha256(content).hexdigest(), **facts)

    def entry(self, path: bytes) -> FileEntry | None:
        with LiveFiles(os.fsencode(self.root)) as files:
            return files.entry(path)

    def names(self) -> set[bytes]:
        return {os.path.join(where, name) for where, folders, files in os.walk(os.fsencode(self.root))
                for name in folders + files}  # fmt: skip


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def mounted(folder: Path, kind: str, *options: str) -> Iterator[Ground]:
    ground = Ground(folder)
    subprocess.run(["mount", "-t", kind, *options, kind, ground.root], check=True)
    yield ground
    subprocess.run(["umount", "-l", ground.root], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Ground]:
    yield from mounted(tmp_path, "tmpfs", "-o", "size=1m,nr_inodes=40,mode=755")


@pytest.fixture
def plain_disk(tmp_path: Path) -> Iterator[Ground]:
    """A file system without extended attributes."""
    yield from mounted(tmp_path, "ramfs", "-o", "mode=755")


@pytest.fixture(params=["same file system", "another file system"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    if request.param == "same file system":
        yield Ground(tmp_path)
    else:
        yield from mounted(tmp_path, "tmpfs", "-o", "size=64m,mode=755")


def acl(*entries: tuple[int, int, int]) -> bytes:
    body = b"".join(
        tag.to_bytes(2, "little") + rights.to_bytes(2, "little") + (number % 2**32).to_bytes(4, "little")
        for tag, rights, number in entries
    )
    return (2).to_bytes(4, "little") + body


ACL = acl((1, 6, -1), (2, 7, 1234), (4, 4, -1), (8, 5, 4321), (16, 7, -1), (32, 0, -1))


# ---------------------------------------------------------------- every kind, whole


def nodes() -> list[FileEntry]:
    bare = FileEntry(b"/", "dir", 0o755, 0, 0, mtime_ns=MOMENT, xattrs=())
    return [
        bare._replace(path=b"/folder", mode=0o2670, gid=1234, xattrs=((ACLS[0], ACL), (ACLS[1], ACL))),
        bare._replace(path=b"/sticky", mode=0o1777, uid=1000),
        bare._replace(path=b"/to/nowhere", kind="link", mode=0o777, link=b"../no\nwhere", uid=7, gid=8),
        bare._replace(path=b"/pipe", kind="fifo", mode=0o620, uid=3),
        bare._replace(path=b"/char", kind="char", mode=0o4600, device=(1, 3)),
        bare._replace(path=b"/block", kind="block", mode=0o660, gid=6, device=(7, 300)),
        bare._replace(path=b"/before 1970", kind="fifo", mode=0o600, mtime_ns=-1_500_000_001),
    ]


@pytest.mark.parametrize("entry", nodes(), ids=lambda entry: entry.path.decode())
def test_every_kind_of_node_stands_as_recorded(anywhere: Ground, entry: FileEntry) -> None:
    with anywhere.applier() as applier:
        for _ in "once more":
            assert applier.write(entry) == ()
        if entry.kind == "dir":
            assert applier.set_folder_time(entry.path, MOMENT) == ()
    assert_stands(anywhere, entry)


def files(ground: Ground) -> list[FileEntry]:
    return [
        ground.staged(b"/plain", b"content\n"),
        ground.staged(b"/empty", b"", mode=0, mtime_ns=-7_000_000_000),
        ground.staged(b"/deep/in/a\n\xff\\folder*/file", b"x" * 3_000_000, mode=0o640, uid=1000, gid=1001),
        ground.staged(b"/setuid", b"#!", mode=0o6755, uid=33, gid=34),
        ground.staged(b"/able", b"ELF", mode=0o755, uid=5, xattrs=((CAPABILITY, CHOWN_CAPABILITY),)),
        ground.staged(b"/acl", b"x", mode=0o670, uid=5, xattrs=((ACLS[0], ACL),)),
        ground.staged(
            b"/both", b"x", mode=0o6670, uid=5, gid=9, xattrs=((CAPABILITY, CHOWN_CAPABILITY), (ACLS[0], ACL))
        ),
        ground.staged(b"/noted", b"x", xattrs=((b"trusted.t", b"\0\xff"), (b"user.note", b""))),
    ]


def test_every_kind_of_file_stands_as_recorded(anywhere: Ground) -> None:
    for entry in files(anywhere):
        with anywhere.applier() as applier:
            assert applier.write(entry) == (), entry.path
        assert_stands(anywhere, entry)
        assert not os.path.exists(os.fsencode(anywhere.stage) + entry.path)


def assert_stands(ground: Ground, entry: FileEntry) -> None:
    have = ground.entry(entry.path)
    assert have is not None
    want = entry._replace(sha256=None, dev=have.dev, ino=have.ino, nlink=have.nlink, sparse=False)
    assert have == want
    if entry.sha256:
        content = Path(os.fsdecode(os.fsencode(ground.root) + entry.path)).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry.sha256
    assert not [name for name in ground.names() if b".tklb-" in name]


def test_holes_are_made_again(anywhere: Ground) -> None:
    content = b"head" + bytes(4_000_000) + b"middle" + bytes(3_000_001)
    entry = anywhere.staged(b"/sparse", content, sparse=True)
    with anywhere.applier() as applier:
        assert applier.write(entry) == ()
    assert_stands(anywhere, entry)
    assert (anywhere.root / "sparse").stat().st_blocks * 512 < 100_000


def test_a_path_longer_than_any_call_takes_is_written(ground: Ground) -> None:
    path = b"".join(b"/" + b"n" * 200 for _ in range(30))
    folder = os.open(ground.stage, os.O_RDONLY)
    for name in path[1:].split(b"/")[:-1]:
        os.mkdir(name, dir_fd=folder)
        folder = os.open(name, os.O_RDONLY, dir_fd=folder)
    with open(os.open(b"n" * 200, os.O_WRONLY | os.O_CREAT, dir_fd=folder), "wb") as stream:
        stream.write(b"deep")
    entry = FileEntry(path, "file", 0o600, 0, 0, size=4, mtime_ns=MOMENT, sha256=hashlib.sha256(b"deep").hexdigest())
    with ground.applier() as applier:
        assert applier.write(entry) == ()
        assert len(applier.notes) == 29
    assert ground.entry(path).size == 4


def test_the_root_folder_itself_takes_metadata(ground: Ground) -> None:
    with ground.applier() as applier:
        for deed in (applier.write, applier.set_metadata):
            assert deed(FileEntry(b"/", "dir", 0o1750, 3, 4, xattrs=((b"user.note", b"x"),))) == ()
        assert applier.set_folder_time(b"/", MOMENT) == ()
    status = ground.root.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_mtime_ns) == (0o1750, 3, MOMENT)


def test_more_folders_than_are_kept_open_are_no_trouble(ground: Ground) -> None:
    entries = [ground.staged(b"/folder%d/file" % (number % 100), b"x") for number in range(300)]
    with ground.applier() as applier:
        before = len(os.listdir("/proc/self/fd"))
        for entry in entries[:100]:
            assert applier.write(entry) == ()
        assert len(os.listdir("/proc/self/fd")) - before < 200
    assert len(ground.names()) == 200


# ---------------------------------------------------------------- what is in the way


def test_a_file_is_replaced_in_one_rename(ground: Ground) -> None:
    old = ground.root / "file"
    old.write_bytes(b"old")
    with old.open("rb") as reader, ground.applier() as applier:
        assert applier.write(ground.staged(b"/file", b"new")) == ()
        assert reader.read() == b"old"
    assert old.read_bytes() == b"new"


def test_a_running_program_is_replaced(ground: Ground) -> None:
    program = ground.root / "sleep"
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    running = subprocess.Popen([program, "60"])
    try:
        with ground.applier() as applier:
            assert applier.write(ground.staged(b"/sleep", b"new")) == ()
    finally:
        running.kill()
        running.wait()


def test_a_folder_in_the_way_goes_only_when_the_plan_knew_it(ground: Ground) -> None:
    (ground.root / "x").mkdir()
    entry, link = ground.staged(b"/x", b"file"), FileEntry(b"/x", "link", link=b"y", uid=0, gid=0)
    with ground.applier() as applier:
        for candidate in (entry, link):
            assert [skipped.item for skipped in applier.write(candidate)] == [b"/x"]
        assert (ground.root / "x").is_dir()
        assert applier.write(ground.staged(b"/x", b"file"), was=FileEntry(b"/x", "dir")) == ()
    assert (ground.root / "x").read_bytes() == b"file"


def test_a_folder_that_still_holds_something_is_never_removed(ground: Ground) -> None:
    (ground.root / "x").mkdir()
    (ground.root / "x" / "precious").touch()
    with ground.applier() as applier:
        (skipped,) = applier.write(ground.staged(b"/x", b"file"), was=FileEntry(b"/x", "dir"))
    assert "not empty" in skipped.reason
    assert (ground.root / "x" / "precious").exists()


@pytest.mark.parametrize("kind", ["file", "link", "fifo", "socket"])
def test_what_is_in_the_way_of_a_folder_goes_only_when_the_plan_knew_it(ground: Ground, kind: str) -> None:
    place = ground.root / "x"
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(place))
    else:
        {"file": place.touch, "link": lambda: place.symlink_to(ground.outside), "fifo": lambda: os.mkfifo(place)}[
            kind
        ]()
    folder = FileEntry(b"/x", "dir", 0o755, 0, 0)
    with ground.applier() as applier:
        (skipped,) = applier.write(folder)
        assert f"a {kind} is in the way" in skipped.reason
        assert applier.write(folder, was=FileEntry(b"/x", kind)) == ()
        assert applier.write(ground.staged(b"/x/in", b"")) == ()
    assert stat.S_ISDIR(place.lstat().st_mode)


def test_missing_parents_are_made_and_noted(ground: Ground) -> None:
    with ground.applier() as applier:
        assert applier.write(ground.staged(b"/usr/local/lib/file", b"x")) == ()
        assert len(applier.notes) == 3
    status = (ground.root / "usr/local").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o755, 0)


@pytest.mark.parametrize("flags", ["i", "a"])
def test_flags_in_the_way_are_lifted_and_set_again(ground: Ground, flags: str) -> None:
    stubborn, gone = ground.root / "stubborn", ground.root / "gone"
    for path in (stubborn, gone):
        path.write_bytes(b"old")
    subprocess.run(["chattr", f"+{flags}", stubborn, gone], check=True)
    try:
        with ground.applier() as applier:
            assert applier.write(ground.staged(b"/stubborn", b"new")) == ()
            assert applier.set_metadata(FileEntry(b"/stubborn", "file", 0o600, 0, 1)) == ()
            assert applier.delete(b"/gone", FileEntry(b"/gone", "file")) == ()
            assert applier.set_lifted_flags() == ()
            assert f"lifted chattr +{flags} of /stubborn and set it again" in applier.notes
        assert (
            flags in subprocess.run(["lsattr", stubborn], check=True, capture_output=True, text=True).stdout.split()[0]
        )
    finally:
        subprocess.run(["chattr", f"-{flags}", stubborn], check=True)
    assert (stubborn.read_bytes(), gone.exists()) == (b"new", False)


def test_an_immutable_folder_gets_its_files_and_its_flags_back(ground: Ground) -> None:
    folder = ground.root / "folder"
    folder.mkdir()
    (folder / "old").write_bytes(b"old")
    subprocess.run(["chattr", "+i", folder], check=True)
    try:
        with ground.applier() as applier:
            assert applier.write(ground.staged(b"/folder/new", b"new")) == ()
            assert applier.delete(b"/folder/old", FileEntry(b"/folder/old", "file")) == ()
            assert applier.set_folder_time(b"/folder", 1_000_000_000) == ()
            assert applier.set_flags(FileEntry(b"/folder/new", "file", flags="ai")) == ()
            assert applier.set_lifted_flags() == ()
        with LiveFiles(os.fsencode(ground.root)) as here:
            found = [here.entry(path) for path in (b"/folder", b"/folder/new")]
        assert [entry and entry.flags for entry in found] == ["i", "ai"]
    finally:
        subprocess.run(["chattr", "-i", folder], check=True)
        subprocess.run(["chattr", "-ai", folder / "new"], check=True)
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert folder.stat().st_mtime_ns == 1_000_000_000


def test_a_mount_point_is_left_alone_and_named(ground: Ground) -> None:
    place = ground.root / "hosts"
    place.write_bytes(b"below")
    (ground.outside / "hosts").write_bytes(b"mounted")
    subprocess.run(["mount", "--bind", ground.outside / "hosts", place], check=True)
    try:
        with ground.applier() as applier:
            (skipped,) = applier.write(ground.staged(b"/hosts", b"new"))
    finally:
        subprocess.run(["umount", place], check=True)
    assert "mounted" in skipped.reason
    assert (ground.outside / "hosts").read_bytes() == b"mounted"


def test_a_read_only_file_system_skips(small_disk: Ground) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk.root], check=True)
    with small_disk.applier() as applier:
        for deed in (applier.write(small_disk.staged(b"/x", b"")), applier.write(FileEntry(b"/d", "dir", 0o755, 0, 0))):
            assert "read-only" in deed[0].reason


def test_an_attribute_the_file_system_cannot_hold_is_named_and_the_file_stands(plain_disk: Ground) -> None:
    entry = plain_disk.staged(b"/able", b"x", mode=0o755, uid=5, xattrs=((CAPABILITY, CHOWN_CAPABILITY),))
    with plain_disk.applier() as applier:
        (skipped,) = applier.write(entry)
    assert "security.capability" in skipped.reason
    assert_stands(plain_disk, entry._replace(xattrs=()))


# ---------------------------------------------------------------- a full disk


@pytest.mark.parametrize("sparse", [False, True])
def test_a_full_disk_is_an_error_that_leaves_nothing_half_written(small_disk: Ground, sparse: bool) -> None:
    (small_disk.root / "x").write_bytes(b"old")
    entry = small_disk.staged(b"/x", b"\1" * 2_000_000, sparse=sparse)
    with small_disk.applier() as applier, pytest.raises(NoSpace):
        applier.write(entry)
    assert (small_disk.root / "x").read_bytes() == b"old"
    assert len(small_disk.names()) == 1
    assert (small_disk.stage / "x").stat().st_size == 2_000_000


def test_no_inode_left_is_a_full_disk(small_disk: Ground) -> None:
    pipes = [FileEntry(b"/pipe%d" % number, "fifo", 0o600, 0, 0) for number in range(50)]
    with small_disk.applier() as applier, pytest.raises(NoSpace):
        deque(map(applier.write, pipes))


# ---------------------------------------------------------------- contents are checked


def test_content_that_is_not_what_was_recorded_never_goes_live(anywhere: Ground) -> None:
    (anywhere.root / "x").write_bytes(b"old")
    entry = anywhere.staged(b"/x", b"forged")._replace(sha256=hashlib.sha256(b"true").hexdigest())
    with anywhere.applier() as applier:
        for sparse in (False, True):
            (skipped,) = applier.write(entry._replace(sparse=sparse))
            assert "not what was recorded" in skipped.reason
    assert (anywhere.root / "x").read_bytes() == b"old"
    assert len(anywhere.names()) == 1


def test_a_file_without_recorded_digest_never_goes_live(ground: Ground) -> None:
    with ground.applier() as applier:
        (skipped,) = applier.write(ground.staged(b"/x", b"x")._replace(sha256=None))
    assert "no digest" in skipped.reason
    assert not ground.names()


def test_content_that_is_missing_is_named(ground: Ground) -> None:
    entry = ground.staged(b"/x", b"x")
    (ground.stage / "x").unlink()
    with ground.applier() as applier:
        (skipped,) = applier.write(entry)
    assert "not in the snapshot" in skipped.reason


def test_content_that_only_the_live_file_has_serves(ground: Ground) -> None:
    (ground.root / "x").write_bytes(b"same")
    os.link(ground.root / "x", ground.root / "other")
    entry = ground.staged(b"/x", b"same", mode=0o600)
    (ground.stage / "x").unlink()
    with ground.applier() as applier:
        assert applier.write(entry) == ()
    assert_stands(ground, entry)
    assert (ground.root / "other").stat().st_mode & 0o777 == 0o644


def test_a_stage_file_with_a_second_name_is_refused(ground: Ground) -> None:
    entry = ground.staged(b"/x", b"x")
    os.link(ground.stage / "x", ground.stage / "y")
    with ground.applier() as applier:
        assert len(applier.write(entry)) == 1
    assert not ground.names()


def test_contents_come_from_whichever_stage_has_them(ground: Ground, tmp_path: Path) -> None:
    other = Ground(tmp_path / "root")
    entries = [ground.staged(b"/etc/a", b"a"), other.staged(b"/etc/b", b"b")]
    with FileWriter(os.fsencode(ground.root), [os.fsencode(ground.stage), os.fsencode(other.stage)]) as applier:
        assert [applier.write(entry) for entry in entries] == [(), ()]
    assert (ground.root / "etc/b").read_bytes() == b"b"


def test_what_a_killed_run_left_is_replaced(anywhere: Ground) -> None:
    for kind in ("file", "link"):
        entry = anywhere.staged(b"/x", b"x", sparse=True)._replace(kind=kind, link=b"to")
        left = os.fsencode(anywhere.root) + b"/" + temporary_name(b"x")
        os.symlink(anywhere.outside, left)
        with anywhere.applier() as applier:
            assert applier.write(entry) == ()
        assert not os.path.lexists(left)
        (anywhere.root / "x").unlink()


# ---------------------------------------------------------------- hard links


def test_a_name_is_linked_to_its_partner_with_its_metadata(anywhere: Ground) -> None:
    first, second = (anywhere.staged(path, b"same", mode=0o4750, uid=5) for path in (b"/a/one", b"/b/two"))
    with anywhere.applier() as applier:
        assert applier.write(first) == ()
        assert applier.link(second, b"/a/one") == ()
        assert applier.link(second, b"/a/one") == ()
    assert (anywhere.root / "a/one").stat().st_nlink == 2
    assert_stands(anywhere, second)


@pytest.mark.parametrize("entry", [entry for entry in nodes() if entry.kind != "dir"], ids=lambda entry: entry.kind)
def test_nodes_have_further_names_too(anywhere: Ground, entry: FileEntry) -> None:
    second = entry._replace(path=b"/second")
    with anywhere.applier() as applier:
        assert applier.write(entry) == ()
        assert applier.link(second, entry.path) == ()
        assert not [note for note in applier.notes if "its own" in note]
    assert anywhere.entry(b"/second").nlink == 2
    assert_stands(anywhere, second)


def test_a_partner_of_another_kind_gives_a_node_of_its_own(ground: Ground) -> None:
    (ground.root / "other").symlink_to("elsewhere")
    with ground.applier() as applier:
        assert applier.link(FileEntry(b"/x", "link", uid=0, gid=0, link=b"here"), b"/other") == ()
        assert applier.link(FileEntry(b"/y", "fifo", 0o600, 0, 0), b"/other") == ()
        assert len(applier.notes) == 2
    assert (ground.root / "x").readlink() == Path("here")
    assert (ground.root / "y").is_fifo()


def test_a_partner_of_another_content_gives_a_file_of_its_own_and_a_note(ground: Ground) -> None:
    (ground.root / "other").write_bytes(b"other")
    with ground.applier() as applier:
        assert applier.link(ground.staged(b"/x", b"mine"), b"/other") == ()
        assert "/x is a file of its own, no hard link to /other" in applier.notes[0]
    assert (ground.root / "x").read_bytes() == b"mine"
    assert (ground.root / "other").read_bytes() == b"other"


def test_a_partner_on_another_file_system_gives_a_file_of_its_own(small_disk: Ground) -> None:
    with FileWriter(os.fsencode(small_disk.root.parent), [os.fsencode(small_disk.stage)]) as applier:
        first, second = small_disk.staged(b"/outside/one", b"x"), small_disk.staged(b"/root/two", b"x")
        assert (applier.write(first), applier.link(second, b"/outside/one")) == ((), ())
        assert len(applier.notes) == 1
    assert (small_disk.root / "two").read_bytes() == b"x"


# ---------------------------------------------------------------- metadata


def test_metadata_takes_away_what_is_not_recorded(ground: Ground) -> None:
    place = ground.root / "x"
    place.write_bytes(b"x")
    os.setxattr(place, "user.old", b"1")
    os.setxattr(place, ACLS[0], ACL)
    os.setxattr(place, CAPABILITY, CHOWN_CAPABILITY)
    place.chmod(0o644)
    want = ground.staged(b"/x", b"x", mode=0o4755, uid=5, gid=6, xattrs=((b"user.new", b"2"),))
    with ground.applier() as applier:
        assert applier.set_metadata(want) == ()
    assert_stands(ground, want)


def test_metadata_that_the_record_is_silent_about_stays(ground: Ground) -> None:
    place = ground.root / "x"
    place.write_bytes(b"x")
    os.setxattr(place, "user.old", b"1")
    with ground.applier() as applier:
        assert applier.set_metadata(FileEntry(b"/x", "file")) == ()
    assert os.getxattr(place, "user.old") == b"1"


def test_metadata_of_another_kind_is_refused(ground: Ground) -> None:
    (ground.root / "x").symlink_to(ground.outside)
    with ground.applier() as applier:
        (skipped,) = applier.set_metadata(FileEntry(b"/x", "dir", 0o777, 5, 5))
    assert "a link and not a dir" in skipped.reason


def test_metadata_of_a_file_that_has_got_another_name_is_refused(ground: Ground) -> None:
    (ground.root / "x").touch()
    was = ground.entry(b"/x")
    os.link(ground.root / "x", ground.root / "secret")
    with ground.applier() as applier:
        (skipped,) = applier.set_metadata(FileEntry(b"/x", "file", 0o666, 1000, 1000), was)
    assert "a new hard link" in skipped.reason
    assert (ground.root / "secret").stat().st_uid == 0


@pytest.mark.parametrize(
    "facts",
    [
        {"uid": 2**40},
        {"mtime_ns": 2**100},
        {"kind": "socket"},
        {"kind": "link", "link": b""},
        {"kind": "link", "link": b"\0"},
        {"kind": "char", "device": (2**40, 1)},
    ],
)
def test_records_no_machine_can_hold_are_skipped(ground: Ground, facts: dict[str, object]) -> None:
    with ground.applier() as applier:
        assert len(applier.write(ground.staged(b"/x", b"x", **facts))) == 1
    assert not ground.names()


# ---------------------------------------------------------------- deletion


def test_deletion_takes_what_was_there_and_is_content_with_nothing(ground: Ground) -> None:
    (ground.root / "folder").mkdir()
    (ground.root / "folder/link").symlink_to(ground.outside)
    with ground.applier() as applier:
        for _ in "once more":
            assert applier.delete(b"/folder/link", FileEntry(b"/folder/link", "link")) == ()
            assert applier.delete(b"/folder", FileEntry(b"/folder", "dir")) == ()
        assert applier.write(ground.staged(b"/folder/again", b"")) == ()
    assert ground.outside.exists()


def test_deletion_spares_what_has_become_something_else(ground: Ground) -> None:
    (ground.root / "x").touch()
    (ground.root / "full").mkdir()
    (ground.root / "full/file").touch()
    with ground.applier() as applier:
        assert "is now a file" in applier.delete(b"/x", FileEntry(b"/x", "link"))[0].reason
        assert "not empty" in applier.delete(b"/full", FileEntry(b"/full", "dir"))[0].reason
    assert len(ground.names()) == 3


# ---------------------------------------------------------------- large contents, hashed before their turn


def test_large_files_among_small_ones_are_put_in_place_each_as_it_was_recorded(ground: Ground) -> None:
    contents = {b"/%03d" % number: os.urandom(300_000 if number % 2 else 10) for number in range(200)}
    entries = [ground.staged(path, content) for path, content in contents.items()]
    entries[51] = entries[51]._replace(sha256=hashlib.sha256(b"other").hexdigest())
    os.link(os.fsencode(ground.stage) + b"/061", os.fsencode(ground.outside) + b"/second name")
    before = len(os.listdir("/proc/self/fd"))
    skipped = []
    with ground.applier() as applier:
        for entry in applier.prepare_ahead(entries, lambda entry: entry):
            skipped += applier.write(entry)
    assert len(os.listdir("/proc/self/fd")) == before
    assert [(item.item, item.reason) for item in skipped] == [
        (b"/051", "its content is not what was recorded"),
        (b"/061", "its content on the stage has a second name"),
    ]
    there = {path: Path(os.fsdecode(os.fsencode(ground.root) + path)).read_bytes() for path in ground_files(ground)}
    assert there == {path: content for path, content in contents.items() if path not in (b"/051", b"/061")}


def ground_files(ground: Ground) -> list[bytes]:
    return sorted(b"/" + os.path.basename(path) for path in ground.names())


def test_large_files_go_to_another_file_system_whole(anywhere: Ground) -> None:
    contents = {b"/%03d" % number: os.urandom(10_000 * number + 250_000) for number in range(3)}
    entries = [anywhere.staged(path, content) for path, content in contents.items()]
    with anywhere.applier() as applier:
        for entry in applier.prepare_ahead(entries, lambda entry: entry):
            assert applier.write(entry) == ()
    for path, content in contents.items():
        assert Path(os.fsdecode(os.fsencode(anywhere.root) + path)).read_bytes() == content


def left_in_the_middle(ground: Ground, entries: list[FileEntry]) -> None:
    with ground.applier() as applier:
        next(applier.prepare_ahead(entries, lambda entry: entry))
        raise KeyboardInterrupt


def test_applier_that_is_left_in_the_middle_closes_what_was_begun(ground: Ground) -> None:
    entries = [ground.staged(b"/%03d" % number, bytes(300_000)) for number in range(100)]
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(KeyboardInterrupt):
        left_in_the_middle(ground, entries)
    assert len(os.listdir("/proc/self/fd")) == before

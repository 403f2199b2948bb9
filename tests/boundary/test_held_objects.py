"""What another user changes between plan and step, or between two steps, gains nothing: each case by a real change."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from tklb.host.files.live_files import LiveFiles
from tklb.host.files.move_object import temporary_name
from tklb.host.files.openat import FolderGuard
from tklb.host.files.write_entry import FileWriter
from tklb.model.files import FileEntry

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
USER = 1500


class Ground:
    """A machine with a folder of a user, /home, and a stage."""

    def __init__(self, folder: Path) -> None:
        self.root, self.stage = folder / "root", folder / "stage"
        self.home = self.root / "home"
        for path in (self.root, self.stage, self.home):
            path.mkdir(mode=0o700)
        os.chown(self.home, USER, USER)
        self.files = LiveFiles(os.fsencode(self.root))

    def writer(self) -> FileWriter:
        return FileWriter(os.fsencode(self.root), [os.fsencode(self.stage)], guard=FolderGuard(self.files.folders))

    def hers(self, name: str, content: bytes = b"x") -> Path:
        path = self.home / name
        path.write_bytes(content)
        os.chown(path, USER, USER)
        return path

    def staged(self, name: str, content: bytes = b"x", **facts: object) -> FileEntry:
        place = self.stage / "home" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        entry = FileEntry(b"/home/" + name.encode(), "file", 0o755, 0, 0, size=len(content), sha256=digest, xattrs=())
        return entry._replace(**facts)

    def look(self, name: str) -> FileEntry:
        found = self.files.entry(b"/home/" + name.encode())
        assert found is not None
        return found


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize(("mode", "owner"), [(0o4755, 0), (0o2755, USER), (0o644, 0), (0o644, 1)])
def test_file_that_gets_more_rights_is_a_new_inode(ground: Ground, mode: int, owner: int) -> None:
    path, want = ground.hers("tool"), ground.staged("tool", mode=mode, uid=owner, gid=0)
    was = ground.look("tool")
    with path.open("r+b") as hers, ground.writer() as writer:
        assert writer.set_metadata(want, was) == ()
        hers.write(b"evil")
        hers.flush()
    assert path.read_bytes() == b"x"
    assert (mode_of(path), path.stat().st_uid) == (mode, owner)


def test_file_that_gets_more_rights_is_checked_while_it_is_written(ground: Ground) -> None:
    path, want = ground.hers("tool"), ground.staged("tool", mode=0o4755)
    (ground.stage / "home/tool").unlink()  # an earlier run took it: then the present content must be right
    was = ground.look("tool")
    path.write_bytes(b"evil")
    with ground.writer() as writer:
        (skipped,) = writer.set_metadata(want, was)
    assert skipped.reason == "its content is not what was recorded"
    assert (mode_of(path) & 0o7000, path.stat().st_uid) == (0, USER)


def test_file_of_which_only_metadata_are_stored_gets_no_more_rights_while_others_can_write(ground: Ground) -> None:
    path, was = ground.hers("tool"), ground.look("tool")
    with ground.writer() as writer:
        (skipped,) = writer.set_metadata(FileEntry(b"/home/tool", "file", 0o4755, 0, 0), was)
    assert "can write to it" in skipped.reason
    assert path.stat().st_uid == USER


def test_metadata_that_give_nothing_new_leave_the_inode(ground: Ground) -> None:
    path, want = ground.hers("note"), ground.staged("note", mode=0o600, uid=USER, gid=USER, mtime_ns=10**18)
    was = ground.look("note")
    with ground.writer() as writer:
        assert writer.set_metadata(want, was) == ()
    assert (path.stat().st_ino, path.stat().st_mtime_ns, mode_of(path)) == (was.ino, 10**18, 0o600)


def test_steps_change_only_the_object_that_the_plan_saw(ground: Ground) -> None:
    ground.hers("one")
    ground.hers("other")
    was, want = ground.look("one"), ground.staged("one", uid=USER, gid=USER)
    os.rename(ground.home / "other", ground.home / "one")
    with ground.writer() as writer:
        assert [item.reason for item in writer.set_metadata(want, was)] == ["another object took its place"]
        assert [item.reason for item in writer.delete(b"/home/one", was)] == [
            "not deleted: another object took its place"
        ]
    assert (ground.home / "one").exists()


def test_digest_is_of_the_object_whose_metadata_were_given(ground: Ground) -> None:
    ground.hers("one")
    ground.hers("other")
    ground.look("one")
    os.rename(ground.home / "other", ground.home / "one")
    assert ground.files.digest(b"/home/one", "sha256") is None
    ground.look("one")
    assert ground.files.digest(b"/home/one", "sha256") == hashlib.sha256(b"x").hexdigest()


def test_folder_is_closed_until_it_is_full(ground: Ground) -> None:
    place = ground.home / "box"
    with ground.writer() as writer:
        assert writer.write(FileEntry(b"/home/box", "dir", 0o755, USER, USER)) == ()
        assert writer.write(ground.staged("box/file")) == ()
        assert (mode_of(place), place.stat().st_uid) == (0o700, 0)
        assert writer.write(ground.staged("box-after")) == ()
        assert (mode_of(place), place.stat().st_uid) == (0o700, 0)  # /home/box/… may still come
        assert writer.write(ground.staged("later")) == ()
        assert (mode_of(place), place.stat().st_uid) == (0o755, USER)
        assert writer.finish_folders() == ()


def test_folder_that_moves_while_it_is_filled_stays_closed_and_is_named(ground: Ground) -> None:
    with ground.writer() as writer:
        assert writer.write(FileEntry(b"/home/box", "dir", 0o755, USER, USER)) == ()
        os.rename(ground.home / "box", ground.home / "gone")
        (ground.home / "box").mkdir(mode=0o777)
        assert writer.write(ground.staged("box/secret", mode=0o644)) == ()
        (skipped,) = writer.finish_folders()
    assert (skipped.item, "moved away" in skipped.reason) == (b"/home/box", True)
    assert not list((ground.home / "box").iterdir())
    assert (mode_of(ground.home / "gone"), (ground.home / "gone").stat().st_uid) == (0o700, 0)


@pytest.mark.parametrize("present", [True, False])
def test_folder_that_the_plan_saw_is_filled_and_no_other(ground: Ground, present: bool) -> None:
    private = ground.home / "private"
    private.mkdir(mode=0o700)
    assert ground.files.entry(b"/home/private/secret") is None
    os.rename(private, ground.home / "gone")
    if present:
        private.mkdir(mode=0o777)
    with ground.writer() as writer:
        (skipped,) = writer.write(ground.staged("private/secret", mode=0o644))
    assert "/home/private" in skipped.reason
    assert private.exists() is present
    assert not present or not list(private.iterdir())


def test_present_folder_of_a_user_is_closed_while_its_owner_changes(ground: Ground) -> None:
    box = ground.home / "box"
    box.mkdir(mode=0o777)
    os.chown(box, USER, USER)
    was = ground.look("box")
    with ground.writer() as writer:
        assert writer.set_metadata(FileEntry(b"/home/box", "dir", 0o750, 1, 1), was) == ()
        assert (mode_of(box), box.stat().st_uid) == (0o700, 0)
        assert writer.finish_folders() == ()
    assert (mode_of(box), box.stat().st_uid) == (0o750, 1)


@pytest.mark.parametrize("kind", ["file", "full folder", "link"])
def test_taken_name_of_a_temporary_file_stops_nothing(ground: Ground, kind: str) -> None:
    taken = ground.home / os.fsdecode(temporary_name(b"fifo"))
    if kind == "file":
        taken.write_bytes(b"hers")
    elif kind == "link":
        taken.symlink_to("/etc")
    else:
        (taken / "full").mkdir(parents=True)
    with ground.writer() as writer:
        assert writer.write(FileEntry(b"/home/fifo", "fifo", 0o600, 0, 0)) == ()
    assert {path.name for path in ground.home.iterdir()} == {taken.name, "fifo"}


def test_leftover_of_a_killed_run_is_removed(ground: Ground) -> None:
    left = ground.home / os.fsdecode(temporary_name(b"fifo"))
    left.mkdir(mode=0o700)
    (left / "new").write_bytes(b"half")
    with ground.writer() as writer:
        assert writer.write(FileEntry(b"/home/fifo", "fifo", 0o600, 0, 0)) == ()
    assert {path.name for path in ground.home.iterdir()} == {"fifo"}


def test_name_is_linked_only_to_a_file_with_its_rights(ground: Ground) -> None:
    hers = ground.hers("first")
    want = ground.staged("second", mode=0o4755)
    with ground.writer() as writer:
        assert writer.link(want, b"/home/first") == ()
        assert "another owner or mode" in writer.notes[0]
    second = ground.home / "second"
    assert (second.stat().st_ino != hers.stat().st_ino, mode_of(second), hers.stat().st_uid) == (True, 0o4755, USER)


def test_nothing_is_written_through_a_link_of_root_into_a_barred_folder(ground: Ground) -> None:
    target = ground.root / "backups"
    target.mkdir(mode=0o700)
    (ground.root / "way").symlink_to("/backups")
    (ground.stage / "way").mkdir()
    (ground.stage / "way/volume").write_bytes(b"x")
    status = target.stat()
    guard = FolderGuard(barred=frozenset({(status.st_dev, status.st_ino)}))
    entry = FileEntry(b"/way/volume", "file", 0o600, 0, 0, size=1, sha256=hashlib.sha256(b"x").hexdigest(), xattrs=())
    stages = [os.fsencode(ground.stage)]
    with FileWriter(os.fsencode(ground.root), stages, follows_root_links=True, guard=guard) as writer:
        skipped = writer.write(entry)
    assert ["target" in item.reason for item in skipped] == [True]
    assert list(target.iterdir()) == []
    with FileWriter(os.fsencode(ground.root), stages, follows_root_links=True) as writer:
        assert writer.write(entry) == ()
    assert [path.name for path in target.iterdir()] == ["volume"]

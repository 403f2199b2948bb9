"""A decoded snapshot compared with its own metadata: every way in which a file can differ is reported."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.boundary.sealed_target import STAGE
from tklb.diff import mtree
from tklb.errors import TargetDamaged
from tklb.model.files import FileEntry
from tklb.model.report import Skipped
from tklb.model.snapshot import Counts, Kind, LedgerEntry, Shard, snapshot_time
from tklb.model.snapshot_metadata import MachineFacts, SnapshotMetadata
from tklb.snapshot import metadata
from tklb.verify.contents import check_contents

ID = "20240501T120000Z"


class Decoded:
    """Two shards as the engine leaves them, with the records of what they hold."""

    def __init__(self, folder: Path) -> None:
        self.shards = (folder / "files-0", folder / "files-1")
        self.copies = folder / "copies"
        for place in (*self.shards, self.copies):
            place.mkdir()
        self.stage = self.shards[0] / STAGE
        self.entries: list[FileEntry] = []
        self.fill()
        self.stage.mkdir(parents=True)
        machine = MachineFacts("a", "0" * 32, "debian-12", "amd64", "debian")
        metadata.write(self.stage, SnapshotMetadata(machine, copies=((b"/srv/app.db", "app.db"),)))
        dumps = self.stage / "databases/mysql"
        dumps.mkdir(parents=True)
        (dumps / "server.json").write_bytes(b"{}")
        metadata.write_dumps_listing(self.stage, None)
        # a dump may be in another shard than the records
        (self.shards[1] / STAGE / "databases").mkdir(parents=True)
        dumps.rename(self.shards[1] / STAGE / "databases/mysql")
        listing = b"".join(map(mtree.format_entry, sorted(self.entries)))
        (self.stage / metadata.MANIFEST).write_bytes(mtree.HEADER + listing)

    def fill(self) -> None:
        (self.shards[0] / "srv").mkdir(mode=0o755)
        (self.shards[1] / "srv").mkdir(mode=0o755)
        self.entries.append(FileEntry(b"/srv", "dir", mode=0o755))
        for number, name in enumerate((b"one", b"two\n", b"\xff")):
            path = os.path.join(bytes(self.shards[number % 2]), b"srv", name)
            Path(os.fsdecode(path)).write_bytes(name)
            os.chmod(path, 0o640)
            digest = hashlib.sha256(name).hexdigest()
            self.entries.append(FileEntry(b"/srv/" + name, "file", mode=0o640, size=len(name), sha256=digest))
        os.symlink("goal", self.shards[1] / "srv/link")
        self.entries.append(FileEntry(b"/srv/link", "link", link=b"goal"))
        os.mkfifo(self.shards[0] / "srv/fifo", 0o600)
        self.entries.append(FileEntry(b"/srv/fifo", "fifo", mode=0o600))
        (self.copies / "srv").mkdir()
        (self.copies / "srv/app.db").write_bytes(b"database")
        digest = hashlib.sha256(b"database").hexdigest()
        self.entries.append(FileEntry(b"/srv/app.db", "file", mode=0o600, size=8, sha256=digest))

    def found(self, **facts: object) -> dict[bytes, str]:
        values: dict[str, object] = {
            "sequence": 1, "snapshot": ID, "kind": Kind.FULL, "previous": "", "host": "", "hostname": "a",
            "profile": "debian", "profile_digest": "", "release": "debian-12", "stage": STAGE, "volumes": (),
            "own_volumes": (), "shards": (Shard("", snapshot_time(ID)), Shard("b-", snapshot_time(ID))),
            "counts": Counts(), "content_digest": metadata.digest(self.stage), **facts,
        }  # fmt: skip
        return {one.path: one.reason for one in check_contents(self.shards, self.copies, LedgerEntry(**values))}  # type: ignore[arg-type]


@pytest.fixture
def decoded(tmp_path: Path) -> Decoded:
    return Decoded(tmp_path)


def test_what_is_as_recorded_is_no_finding(decoded: Decoded) -> None:
    assert decoded.found() == {}


BREAKS: dict[str, tuple[Callable[[Path, Path], object], bytes, str]] = {
    "content": (lambda one, two: (one / "srv/one").write_bytes(b"onf"), b"/srv/one", "its content differs"),
    "size": (lambda one, two: (one / "srv/one").write_bytes(b"longer"), b"/srv/one", "it has 6 bytes, not 3"),
    "mode": (lambda one, two: (one / "srv/one").chmod(0o600), b"/srv/one", "its mode is 0600, not 0640"),
    "setuid": (lambda one, two: (one / "srv/one").chmod(0o4640), b"/srv/one", "its mode is 4640, not 0640"),
    "missing": (lambda one, two: (two / "srv/two\n").unlink(), b"/srv/two\n", "it is missing"),
    "link": (lambda one, two: relink(two / "srv/link"), b"/srv/link", "it points somewhere else"),
    "kind": (lambda one, two: refile(one / "srv/fifo"), b"/srv/fifo", "it is a file, not a fifo"),
    "dump": (
        lambda one, two: (two / STAGE / "databases/mysql/server.json").write_bytes(b"[]"),
        f"/{STAGE}/databases/mysql/server.json".encode(), "its content differs",
    ),
    "copy": (
        lambda one, two: (one.parent / "copies/srv/app.db").write_bytes(b"databasf"),
        b"/srv/app.db", "its content differs",
    ),
}  # fmt: skip


def relink(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere")


def refile(path: Path) -> None:
    path.unlink()
    path.touch(mode=0o600)


@pytest.mark.parametrize("how", BREAKS)
def test_each_difference_is_told(decoded: Decoded, how: str) -> None:
    breaks, path, reason = BREAKS[how]
    breaks(*decoded.shards)
    assert decoded.found() == {path: reason}


def test_altered_records_are_told(decoded: Decoded) -> None:
    assert decoded.found(content_digest="0" * 64) == {f"/{STAGE}".encode(): "the metadata is not what was sealed"}


def test_records_that_cannot_be_read_are_damage(decoded: Decoded) -> None:
    (decoded.stage / "machine.json").write_text("{")
    with pytest.raises(TargetDamaged, match="metadata cannot be read"):
        decoded.found()


def test_what_the_record_itself_says_was_missed_is_no_finding(decoded: Decoded) -> None:
    (decoded.shards[0] / "srv/one").unlink()
    assert decoded.found(skipped=(Skipped(b"/srv/one", "it vanished"),)) == {}


def test_file_that_changed_under_the_reader_is_held_against_what_was_read(decoded: Decoded) -> None:
    (decoded.shards[0] / "srv/one").write_bytes(b"as it was read")
    digest = hashlib.sha256(b"as it was read").hexdigest()
    facts = {"skipped": (Skipped(b"/srv/one", "changed while being read"),)}
    assert decoded.found(changed_while_read=((b"/srv/one", digest),), **facts) == {}
    assert decoded.found(changed_while_read=((b"/srv/one", "0" * 64),), **facts) == {b"/srv/one": "its content differs"}


def test_mode_of_a_copied_database_is_not_that_of_its_copy(decoded: Decoded) -> None:
    (decoded.copies / "srv/app.db").chmod(0o400)
    assert stat.S_IMODE((decoded.copies / "srv/app.db").stat().st_mode) == 0o400
    assert decoded.found() == {}

"""What the engine must read again: the names that follow from the metadata of two snapshots."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.appliance import Appliance, clone
from tests.lab.box import Box
from tklb.backup.changes import compare_with_last
from tklb.diff import mtree
from tklb.model.files import FileEntry
from tklb.snapshot import metadata


def stage_with(folder: Path, content: str) -> Path:
    folder.mkdir()
    page = FileEntry(b"/srv/page", "file", 0o644, 0, 0, b"root", b"root", 5, 0, sha256=content * 64)
    (folder / metadata.MANIFEST).write_bytes(mtree.HEADER + mtree.format_entry(page))
    (folder / metadata.DUMPS_LISTING).write_bytes(mtree.HEADER)
    (folder / "accounts").mkdir()
    (folder / "accounts/passwd").write_bytes(b"root:x:0:0::/root:/bin/sh\n")
    return folder


def test_records_are_taken_anew_whatever_size_and_time_they_have(tmp_path: Path) -> None:
    last, stage = stage_with(tmp_path / "last", "a"), stage_with(tmp_path / "stage", "b")
    work = tmp_path / "work"
    work.mkdir()
    difference = compare_with_last(last, stage, work, frozenset())
    records = [str(stage / name)[1:] for name in ("accounts/passwd", metadata.DUMPS_LISTING, metadata.MANIFEST)]
    assert sorted(difference.edited.read_text().split("\0")) == sorted(["", "srv/page", *records])
    assert (difference.changed, difference.has_other_metadata) == (1, False)


def test_without_a_snapshot_before_everything_counts_and_nothing_must_be_named(tmp_path: Path) -> None:
    stage, work = tmp_path / "stage", tmp_path / "work"
    for folder in (stage, work):
        folder.mkdir()
    entries = [
        FileEntry(b"/a", "dir", 0o755, 0, 0),
        FileEntry(b"/a/page", "file", 0o644, 0, 0, size=5, mtime_ns=0, sha256="a" * 64, xattrs=((b"user.size", b"1"),)),
        FileEntry(b"/b", "link", link=b"size=9"),
        FileEntry(b"/size=7", "file", 0o644, 0, 0, size=70, mtime_ns=0, sha256="b" * 64, sparse=True),
    ]
    (stage / metadata.MANIFEST).write_bytes(mtree.HEADER + b"".join(map(mtree.format_entry, entries)))
    difference = compare_with_last(None, stage, work, frozenset())
    assert (difference.changed, difference.metadata, difference.deleted, difference.size) == (4, 0, 0, 75)
    assert not difference.has_other_dumps
    assert not difference.is_empty
    assert difference.edited.read_bytes() == b""
    dump = FileEntry(b"/databases/mysql/rows", "file", 0o600, 0, 0, size=1000, mtime_ns=0, sha256="c" * 64)
    (stage / metadata.DUMPS_LISTING).write_bytes(mtree.HEADER + mtree.format_entry(dump))
    (work / "edited").unlink()
    again = compare_with_last(None, stage, work, frozenset())
    assert (again.has_other_dumps, again.size) == (True, 1075)


ALIKE = """
import os
from tklb.commands import backup
write = backup.write_metadata
def write_alike(session, state, folder, job):
    totals = write(session, state, folder, job)
    for path in (folder / "manifest.mtree", folder / "packages"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return totals
backup.write_metadata = write_alike
"""
OTHERS = """
from tklb.snapshot import metadata
metadata.digest = lambda folder: "0" * 64
"""


@pytest.fixture(scope="module")
def a() -> Iterator[Appliance]:
    with clone("core", hostname="a", tklb=True) as a:
        a.run(["tklb", "init", "--target", "file:///mnt/target"])
        yield a


@pytest.mark.lab
def test_snapshot_taken_within_the_second_of_the_one_before_has_its_own_records(a: Appliance) -> None:
    """Both manifests have the same size and the same time: only their content differs."""
    for content in ("first ", "second"):
        (a.root / "srv/page").write_text(content)
        back_up(a, ALIKE)
    a.run(["rm", "/srv/page"])
    a.run(["tklb", "restore", "--yes"])
    assert (a.root / "srv/page").read_text() == "second"


@pytest.mark.lab
def test_nothing_is_restored_by_records_that_were_not_sealed(a: Appliance) -> None:
    (a.root / "srv/page").write_text("mine")
    back_up(a, OTHERS)
    a.run(["rm", "/srv/page"])
    refused = a.run(["tklb", "restore", "--yes"], check=False)
    assert refused.returncode == 33
    assert "is not what was sealed" in refused.stderr
    assert not (a.root / "srv/page").exists()
    a.run(["tklb", "restore", "--into", "/root/decoded"])
    assert (a.root / "root/decoded/srv/page").read_text() == "mine"


def back_up(machine: Box, change: str) -> None:
    """Back up with something of tklb changed that cannot be had from outside."""
    begin = "import sys; sys.path.insert(0, '/opt/tklb/lib'); sys.argv = ['tklb', 'backup']"
    run = "from tklb.__main__ import main; sys.exit(main())"
    machine.run(["/usr/bin/python3", "-IS", "-c", f"{begin}\n{change}\n{run}"])

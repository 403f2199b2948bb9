"""What the engine is told to take anew: the names that follow from two stages."""

from pathlib import Path

import pytest

from tests.lab.appliance import clone
from tests.lab.box import Box
from tklb import snapshot
from tklb.delta import mtree
from tklb.flow.difference import since_last
from tklb.model import FileEntry


def stage_with(folder: Path, content: str) -> Path:
    folder.mkdir()
    page = FileEntry(b"/srv/page", "file", 0o644, 0, 0, b"root", b"root", 5, 0, sha256=content * 64)
    (folder / snapshot.MANIFEST).write_bytes(mtree.HEADER + mtree.format_entry(page))
    (folder / snapshot.DUMPS_LISTING).write_bytes(mtree.HEADER)
    (folder / "accounts").mkdir()
    (folder / "accounts/passwd").write_bytes(b"root:x:0:0::/root:/bin/sh\n")
    return folder


def test_records_are_taken_anew_whatever_size_and_time_they_have(tmp_path: Path) -> None:
    last, stage = stage_with(tmp_path / "last", "a"), stage_with(tmp_path / "stage", "b")
    work = tmp_path / "work"
    work.mkdir()
    difference = since_last(last, stage, work, frozenset())
    records = [str(stage / name)[1:] for name in ("accounts/passwd", snapshot.DUMPS_LISTING, snapshot.MANIFEST)]
    assert sorted(difference.edited.read_text().split("\0")) == sorted(["", "srv/page", *records])
    assert (difference.changed, difference.records_moved) == (1, False)


RECORD_SECOND = """
import os, sys
from tklb.flow import stage
fill = stage.fill_stage
def filled(setting, seen, folder, how):
    staged = fill(setting, seen, folder, how)
    for path in (folder / "manifest.mtree", folder / "packages"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return staged
from tklb.flow import backup
backup.fill_stage = filled
from tklb.__main__ import main
sys.argv = ["tklb", "backup"]
sys.exit(main())
"""


@pytest.mark.lab
def test_snapshot_taken_within_the_second_of_the_one_before_has_its_own_records() -> None:
    """Both manifests have the same size and the same time: only their content differs."""
    with clone("core", hostname="a", tklb=True) as a:
        a.run(["tklb", "init", "--target", "file:///mnt/target"])
        for content in ("first ", "second"):
            (a.root / "srv/page").write_text(content)
            back_up(a)
        a.run(["rm", "/srv/page"])
        a.run(["tklb", "restore", "--yes"])
        assert (a.root / "srv/page").read_text() == "second"


def back_up(machine: Box) -> None:
    machine.run(["/usr/bin/python3", "-IS", "-c", "import sys; sys.path.insert(0, '/opt/tklb/lib')" + RECORD_SECOND])

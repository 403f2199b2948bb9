"""Data of a server move to another folder: a move that is killed at any stage is undone without a loss. Needs root."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tklb.databases.data_folders import DataMove, move_data, recover_data

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

CONTENT = {f"table-{number}/rows": f"{number}\n" * number for number in range(1, 9)}


@pytest.fixture(params=["the same file system", "another file system"])
def folders(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """The folder of the data, and an empty one; both belong to an account without rights."""
    for above in (tmp_path, *tmp_path.parents):
        if "pytest" in str(above):
            above.chmod(0o755)
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
        os.chown(folder, 65534, 65534)
    if request.param == "another file system":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "uid=65534,gid=65534", "tmpfs", new], check=True)
    for name, text in CONTENT.items():
        path = old / name
        path.parent.mkdir()
        path.write_text(text)
        for each in (path.parent, path):
            os.chown(each, 65534, 65534)
    yield old, new
    if request.param == "another file system":
        subprocess.run(["umount", new], check=True)


def read(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def move_and_die(old: Path, new: Path, stage: int) -> list[DataMove]:
    """Move in a process that dies as soon as so many stages are noted; give those."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        noted: list[DataMove] = []

        def note(move: DataMove) -> None:
            noted.append(move)
            os.write(writer, b"1" if move.is_copied else b"0")
            if len(noted) == stage:
                os._exit(0)

        move_data(str(old), str(new), note)
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as stream:
        return [DataMove(str(old), str(new), flag == ord("1")) for flag in stream.read()]


@pytest.mark.parametrize("stage", [1, 2, 99])
def test_killed_move_is_undone_without_a_loss(folders: tuple[Path, Path], stage: int) -> None:
    old, new = folders
    moves = move_and_die(old, new, stage)
    assert recover_data(moves, moves.append) == ""
    assert (read(old), read(new)) == (CONTENT, {})
    assert recover_data(moves, moves.append) == "", "an undo that is repeated changes nothing"
    assert (read(old), read(new)) == (CONTENT, {})


def test_move_that_was_killed_while_it_copied_leaves_the_whole_data(folders: tuple[Path, Path]) -> None:
    old, new = folders
    if old.stat().st_dev == new.stat().st_dev:
        os.rename(old / "table-3", new / "table-3")
    else:
        (new / "table-3").mkdir()
        (new / "table-3/rows").write_text("half")
        os.chown(new / "table-3", 65534, 65534)
    assert recover_data([DataMove(str(old), str(new))], lambda move: None) == ""
    assert (read(old), read(new)) == (CONTENT, {})


def test_move_brings_all_and_leaves_nothing(folders: tuple[Path, Path]) -> None:
    old, new = folders
    assert move_data(str(old), str(new), lambda move: None) == ""
    assert (read(old), read(new)) == ({}, CONTENT)
    assert "cannot move" in move_data(str(new), "/proc/nowhere/x", lambda move: None)
    assert read(new) == CONTENT

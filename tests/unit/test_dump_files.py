"""Rows in files, and what a dump says about itself: cuts that a change does not move, names, hostile contents."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tklb.databases.dump_format import DumpFolder, encode_file_name, read_server, write_file, write_server
from tklb.databases.row_files import RowWriter
from tklb.errors import DatabaseFailed
from tklb.model.databases import SavedDatabase, SavedServer, SavedTable

LINES = [b"%d\tcustomer %d\t%s" % (n, n, b"x" * (n % 900)) for n in range(30_000)]


def written(folder: Path, lines: list[bytes], block: int = 10_000) -> dict[str, bytes]:
    """The files of a table with these rows, by name, in order."""
    with RowWriter(folder, "t") as rows:
        for start in range(0, len(lines), block):
            rows.write(b"".join(line + b"\n" for line in lines[start : start + block]))
    assert rows.rows == len(lines)
    assert rows.size == sum(len(line) + 1 for line in lines)
    assert sorted(rows.files) == sorted(os.listdir(folder))
    return {name: (folder / name).read_bytes() for name in rows.files}


def test_files_in_order_are_the_rows(tmp_path: Path) -> None:
    files = written(tmp_path / "a", LINES)
    assert len(files) > 2
    assert b"".join(files.values()) == b"".join(line + b"\n" for line in LINES)


def test_how_rows_arrive_makes_no_difference(tmp_path: Path) -> None:
    assert written(tmp_path / "a", LINES) == written(tmp_path / "b", LINES, block=777)


@pytest.mark.parametrize("change", ["edit", "insert", "delete", "first"])
def test_a_changed_row_touches_one_file_or_two(tmp_path: Path, change: str) -> None:
    lines = list(LINES)
    if change == "edit":
        lines[15_000] = b"15000\tanother\tvalue"
    elif change == "insert":
        lines.insert(15_000, b"14999.5\tone more\t")
    elif change == "delete":
        del lines[15_000]
    else:
        lines[0] = b"0\tanother\tfirst"
    before, after = written(tmp_path / "a", LINES), written(tmp_path / "b", lines)
    assert 1 <= len(set(before.items()) ^ set(after.items())) <= 4
    assert before.items() & after.items()


def test_the_same_row_again_and_again_is_kept_each_time(tmp_path: Path) -> None:
    lines = [b"the same row" * 5000] * 1500
    files = written(tmp_path / "a", lines)
    assert b"".join(files.values()) == b"".join(line + b"\n" for line in lines)


def test_table_without_rows_has_no_file(tmp_path: Path) -> None:
    assert written(tmp_path / "a", []) == {}


def test_row_of_no_column_is_a_line(tmp_path: Path) -> None:
    assert written(tmp_path / "a", [b"", b"", b""]) == {"t": b"\n\n\n"}


def test_half_a_line_is_refused(tmp_path: Path) -> None:
    with RowWriter(tmp_path / "a", "t") as rows, pytest.raises(ValueError, match="newline"):
        rows.write(b"1\t2\n3\t")


def test_rows_are_private_and_follow_no_link(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o700)
    (tmp_path / "a/t").symlink_to(tmp_path / "elsewhere")
    with RowWriter(tmp_path / "a", "t") as rows, pytest.raises(FileExistsError):
        rows.write(b"1\n")
    assert not (tmp_path / "elsewhere").exists()
    with RowWriter(tmp_path / "b", "t") as rows:
        rows.write(b"1\n")
    assert (tmp_path / "b/t").stat().st_mode & 0o777 == 0o600


NAMES = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), min_size=1, max_size=70)


@given(NAMES, NAMES)
def test_names_get_safe_file_names_of_their_own(one: str, other: str) -> None:
    name = encode_file_name(one)
    assert "/" not in name
    assert "+" not in name
    assert not name.startswith((".", "-"))
    assert len(os.fsencode(name)) <= 100
    assert (name == encode_file_name(other)) == (one == other)


def test_file_name_never_looks_like_that_of_another(tmp_path: Path) -> None:
    taken = encode_file_name("a/b")
    assert encode_file_name(taken) != taken
    assert encode_file_name("orders") == "orders"
    assert encode_file_name("Orders") != encode_file_name("orders")


SERVER = SavedServer(
    "mysql",
    "MariaDB 10.11.14",
    (
        SavedDatabase(
            "mysql", "a/b\n\udcff", "a_b~1", (SavedTable("t", 3, ("rows/t",)), SavedTable("u")), 12, ("engine:InnoDB",)
        ),
    ),
    ("'x'@'%'",),
)


def test_what_a_dump_says_of_itself_comes_back(tmp_path: Path) -> None:
    write_server(tmp_path, SERVER)
    assert read_server(DumpFolder((tmp_path / "none", tmp_path))) == SERVER


@pytest.mark.parametrize("name", ["/etc/shadow", "../x", "a/../../b", "", "a//b", "."])
def test_dump_that_points_outside_itself_is_refused(tmp_path: Path, name: str) -> None:
    write_server(tmp_path, replace(SERVER, databases=(replace(SERVER.databases[0], folder=name),)))
    with pytest.raises(DatabaseFailed, match="no name below the dump"):
        read_server(DumpFolder((tmp_path,)))


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"databases": 1}', b'{"databases": [{}], "accounts": []}', b"\xff"]
)
def test_dump_whose_contents_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    write_file(tmp_path / "server.json", content)
    with pytest.raises(DatabaseFailed, match=r"server\.json"):
        read_server(DumpFolder((tmp_path,)))


def test_files_of_a_dump_may_lie_in_several_trees_and_are_no_links(tmp_path: Path) -> None:
    write_file(tmp_path / "a/rows/t", b"1\n2\n")
    write_file(tmp_path / "b/rows/u", b"3\n")
    (tmp_path / "b/rows/v").symlink_to("/etc/hostname")
    dump = DumpFolder((tmp_path / "a", tmp_path / "b"), "mysql:shop").enter("rows")
    assert b"".join(dump.blocks(("t", "u"))) == b"1\n2\n3\n"
    assert not dump.has("w")
    with pytest.raises(DatabaseFailed, match="mysql:shop: its dump lacks v"):
        dump.path("v")

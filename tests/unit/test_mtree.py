"""Listings: what is written is read back, foreign ones are understood, and no bytes do more than raise ValueError."""

import contextlib
import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.lab.soak import examples
from tests.unit.entries import ENTRIES, record_of
from tklb.diff.listing import format_listing, read_records
from tklb.diff.mtree import HEADER, escape, format_entry, format_parent, parse, unescape
from tklb.model.files import FileEntry


def read(text: bytes) -> list[FileEntry]:
    return list(parse(text.splitlines(keepends=True)))


@settings(max_examples=examples(300))
@given(st.lists(ENTRIES, max_size=4))
def test_what_is_written_is_read_back(entries: list[FileEntry]) -> None:
    assert read(HEADER + b"".join(map(format_entry, entries))) == entries


@given(st.binary())
def test_an_escaped_name_has_no_sign_with_a_meaning_and_comes_back(name: bytes) -> None:
    assert not set(escape(name)) & set(b" \t\n\r\v\f#=*?[]'\"$&;|<>(){}`!^")
    assert escape(name).isascii()
    assert unescape(escape(name)) == name


@settings(max_examples=examples(300))
@given(st.binary() | st.lists(st.sampled_from([
    b"/set", b"/unset", b"all", b"..", b".", b"./a", b"b", b"type=", b"type=dir", b"type=file", b"size=-1", b"time=9.",
    b"link=\\", b"#+", b"ctime=x", b"xattr.u=%", b"\\", b"\\\n", b"\n", b"device=native,1", b"\xff", b"sha256=0",
    HEADER,
])).map(b" ".join))  # fmt: skip
@example(b"./a type=file\n#+ xattr.\xff=\xff")
def test_no_bytes_make_the_parser_do_more_than_refuse(text: bytes) -> None:
    for reading in (read, lambda raw: list(read_records(io.BytesIO(raw)))):
        with contextlib.suppress(ValueError):
            reading(text)


@given(st.lists(ENTRIES, max_size=6, unique_by=lambda entry: entry.path), st.data())
def test_records_are_the_entries_whatever_parents_are_named_between(
    entries: list[FileEntry], data: st.DataObject
) -> None:
    entries.sort()
    text = b"".join(format_listing(map(record_of, entries)))
    assert read(text) == entries
    assert list(read_records(io.BytesIO(text))) == list(map(record_of, entries))


@given(st.lists(ENTRIES, max_size=6, unique_by=lambda entry: entry.path))
def test_every_folder_above_an_entry_is_named_before_it(entries: list[FileEntry]) -> None:
    entries = [entry._replace(kind="dir") for entry in sorted(entries)]
    named = set()
    for line in b"".join(format_listing(map(record_of, entries))).splitlines():
        if line.startswith(b"."):
            path = unescape(line.split(b" ")[0][1:])
            assert not path or path[: path.rindex(b"/")] in named
            named.add(path)


def test_only_the_wanted_keywords_are_written() -> None:
    entry = FileEntry(b"/a", "file", 0o644, 0, 0, b"root", b"root", 5, 1, 2, sha256="ab" * 32, xattrs=(), sparse=True)
    assert format_entry(entry, frozenset(("mode", "sha256digest"))) == (
        b"./a type=file mode=0644 sha256digest=" + b"ab" * 32 + b"\n"
    )
    assert format_entry(entry, frozenset(("xattr", "sparse"))) == b"./a type=file\n#+ sparse xattr=none\n"


def test_a_folder_named_for_its_children_only_is_no_entry() -> None:
    assert read(HEADER + format_parent(b"/") + format_parent(b"/etc") + b"./etc/x type=file\n") == [
        FileEntry(b"/etc/x", "file")
    ]


NETBSD = rb"""
#          user: root
# .
/set type=file uid=0 gid=0 mode=0644 nlink=1 flags=none
.               type=dir mode=0755 nlink=3 time=1.5
    \^A\^?\^[[31m \
                mode=0601 size=17 time=-2.500000000
    a\#b\sc     size=1
    bad\M^?\M-~\M-C\M-) \
                size=3
    ln          type=link mode=0777 link=tar\nget\s\#*\\

# ./dir
/set uid=7
dir             type=dir
    x           size=9
sub             type=dir
/unset uid
    y           size=1
# ./dir/sub
..
    z           size=2
# ./dir
..
last            type=socket
./dir/full      size=3
beside          size=4
"""


def test_a_listing_of_netbsd_is_understood() -> None:
    plain = {"mode": 0o644, "uid": 0, "gid": 0, "nlink": 1}
    owned = {**plain, "uid": 7}
    unowned = {**plain, "uid": None}
    assert read(NETBSD) == [
        FileEntry(b"/", "dir", mtime_ns=1_000_000_005, **{**plain, "mode": 0o755, "nlink": 3}),
        FileEntry(b"/\x01\x7f\x1b[31m", "file", size=17, mtime_ns=-1_500_000_000, **{**plain, "mode": 0o601}),
        FileEntry(b"/a#b c", "file", size=1, **plain),
        FileEntry(b"/bad\xff\xfe\xc3\xa9", "file", size=3, **plain),
        FileEntry(b"/ln", "link", link=b"tar\nget #*\\", **{**plain, "mode": 0o777}),
        FileEntry(b"/dir", "dir", **owned),
        FileEntry(b"/dir/x", "file", size=9, **owned),
        FileEntry(b"/dir/sub", "dir", **owned),
        FileEntry(b"/dir/sub/y", "file", size=1, **unowned),
        FileEntry(b"/dir/z", "file", size=2, **unowned),
        FileEntry(b"/dir/full", "file", size=3, **unowned),
        FileEntry(b"/dir/beside", "file", size=4, **unowned),
    ]


@pytest.mark.parametrize(("text", "number"), [
    (b"time=1600000000.5", 1_600_000_000_000_000_005),
    (b"time=1600000000.000000005", 1_600_000_000_000_000_005),
    (b"time=-1.999999999", -1),
    (b"time=-2.500000000", -1_500_000_000),
    (b"time=7", 7_000_000_000),
])  # fmt: skip
def test_the_fraction_of_a_time_is_an_integer_of_nanoseconds(text: bytes, number: int) -> None:
    assert read(b"./a type=file " + text)[0].mtime_ns == number


@pytest.mark.parametrize("text", [b"native,259,70000", b"linux,259,70000", b"0x11110370", b"286327664"])
def test_device_numbers_are_read_in_every_form(text: bytes) -> None:
    assert read(b"./a type=char device=" + text)[0].device == (259, 70000)


def test_inode_and_device_of_bsdtar_are_read() -> None:
    entry = read(b"./a type=file inode=12 resdevice=native,254,0 sha1digest=00 cksum=1")[0]
    assert (entry.ino, entry.dev) == (12, 65024)


@pytest.mark.parametrize("text", [
    b"./a", b"./a type=door", b"./a type=file size=x", b"./a type=file size=-1", b"./a type=file size=1_0",
    b"./a type=file mode=9", b"./a type=file time=1.", b"./a type=file time=1e3", b"./a type=file sha256digest=abc",
    b"./../a type=file", b"./a/../../b type=file", b"./a\\000b type=file", b"..", b"./a type=link link=\\000",
    b"./a type=char device=native,1", b"./a type=file\n#+ ctime=x", b"./a type=file\n#+ xattr.u=%",
    b"./a type=file\n#+ inode=-1", b"./a type=link link=x\\",
])  # fmt: skip
def test_a_line_that_means_nothing_is_refused_with_its_number(text: bytes) -> None:
    lines = 2 + text.count(b"\n")
    with pytest.raises(ValueError, match=f"line {lines}"):
        read(HEADER + text + b" ")

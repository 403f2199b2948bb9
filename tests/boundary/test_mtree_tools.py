"""Listings and the tools that others use: bsdtar and mtree(8) accept and check ours; we read theirs.

Touches a folder of its own. Needs root, bsdtar (libarchive-tools) and mtree (mtree-netbsd).
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.boundary import nasty
from tklb.diff.files import compare
from tklb.diff.listing import format_listing, read_records
from tklb.diff.mtree import format_entry, parse
from tklb.diff.rules import Rule, Rules
from tklb.host.files.scan import scan
from tklb.host.files.scan_records import scan_records
from tklb.model.files import FileEntry

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes devices and sets owners")
ALL = Rules([Rule(include=True, pattern=b"/")])
MTREE_KEYS = "type,mode,uid,gid,nlink,size,time,link,device,sha256,md5"


@pytest.fixture
def tree(tmp_path: Path) -> bytes:
    tree = bytes(tmp_path / "tree")
    os.mkdir(tree)
    nasty.make(tree, netbsd=True)
    os.unlink(tree + b"/socket")  # we record none, and both tools would call it extra
    return tree


def write_listing(tree: bytes, to: Path, rules: Rules = ALL) -> Path:
    with to.open("wb") as stream:
        stream.writelines(format_listing(scan_records(tree, rules, skipped=[], digest=True)))
    return to


def own(tree: bytes) -> list[FileEntry]:
    return list(scan(tree, ALL, skipped=[], digest=True))


def said(*argv: str | bytes | Path, cwd: bytes | None = None) -> bytes:
    return subprocess.run(argv, cwd=cwd, check=True, capture_output=True, env={**os.environ, "LC_ALL": "C"}).stdout


def check(tree: bytes, listed: Path, *options: str) -> tuple[int, bytes]:
    """Let mtree(8) hold the tree against a listing: 0 is no difference, 2 some."""
    done = subprocess.run(["mtree", *options, "-p", tree, "-f", listed], capture_output=True, check=False)
    assert not done.stderr
    return done.returncode, done.stdout


def test_mtree_finds_no_difference_between_our_listing_and_the_tree(tree: bytes, tmp_path: Path) -> None:
    assert check(tree, write_listing(tree, tmp_path / "ours")) == (0, b"")


@pytest.mark.parametrize(("deed", "complaint"), [
    (lambda tree: os.utime(tree + b"/before 1970", ns=(0, -1_500_000_001)), b"modification time"),
    (lambda tree: os.chmod(tree + b"/a#b", 0o755), b"permissions"),
    (lambda tree: os.unlink(tree + b"/bad\xff\xfeutf"), b"missing"),
    (lambda tree: nasty.write(tree + b"/more"), b"extra"),
    (lambda tree: os.chown(tree + b"/new\nline", 3, 3), b"user"),
    (lambda tree: nasty.write(tree + b"/dir/sub*dir/deep/file", b"y"), b"sha256"),
], ids=lambda value: value.decode() if isinstance(value, bytes) else "")  # fmt: skip
def test_mtree_finds_by_our_listing_what_was_done_to_the_tree(
    tree: bytes, tmp_path: Path, deed: Callable[[bytes], None], complaint: bytes
) -> None:
    listed = write_listing(tree, tmp_path / "ours")
    deed(tree)
    status, output = check(tree, listed)
    assert status == 2
    assert complaint in output


def test_mtree_checks_a_part_of_a_tree(tree: bytes, tmp_path: Path) -> None:
    listed = write_listing(tree, tmp_path / "ours", Rules([Rule(True, b"/dir/sub*dir", is_literal=True)]))
    assert check(tree, listed, "-e") == (0, b"")
    nasty.write(tree + b"/dir/sub*dir/deep/file", b"yy")
    assert check(tree, listed, "-e")[0] == 2


def test_mtree_reads_our_listing_as_we_wrote_it(tree: bytes, tmp_path: Path) -> None:
    listed = write_listing(tree, tmp_path / "ours")
    dumped = sorted(parse(said("mtree", "-C", "-f", listed, "-k", MTREE_KEYS).splitlines(keepends=True)))
    ours = own(tree)
    assert [entry.path for entry in dumped] == [entry.path for entry in ours]
    assert not list(compare(dumped, ours))


def test_bsdtar_lists_every_path_of_our_listing(tree: bytes, tmp_path: Path) -> None:
    listed = write_listing(tree, tmp_path / "ours")
    names = said("bsdtar", "-tf", listed).splitlines()
    assert len(names) == len(own(tree))


def test_bsdtar_reads_our_listing_as_we_wrote_it(tree: bytes, tmp_path: Path) -> None:
    """Written again by bsdtar without a look at the tree, it says the same of all that bsdtar keeps."""
    listed = write_listing(tree, tmp_path / "ours")
    empty = bytes(tmp_path / "empty")
    os.mkdir(empty)
    again = said("bsdtar", "-cf", "-", "--format=mtree", b"@" + bytes(listed), cwd=empty)
    theirs, ours = sorted(parse(again.splitlines(keepends=True))), own(tree)
    assert [entry.path for entry in theirs] == [entry.path for entry in ours]
    assert not list(compare(theirs, ours))
    assert all(entry.mtime_ns is not None and entry.uid is not None for entry in theirs)
    assert [entry.link for entry in theirs] == [entry.link for entry in ours]
    assert [entry.device for entry in theirs] == [entry.device for entry in ours]


def test_bsdtar_puts_back_from_our_listing_what_it_archives(tree: bytes, tmp_path: Path) -> None:
    """Ours drives an archive: contents come from the tree, metadata from the listing."""
    listed = write_listing(tree, tmp_path / "ours")
    archive, out = tmp_path / "archive.tar", bytes(tmp_path / "out")
    os.mkdir(out)
    said("bsdtar", "--format=pax", "-cf", archive, b"@" + bytes(listed), cwd=tree)
    said("bsdtar", "-xpf", archive, "-C", out)
    keys = frozenset(("mode", "uid", "gid", "size", "link", "device", "sha256digest"))
    again = [format_entry(entry, keys) for entry in own(out) if entry.kind == "file"]
    assert again == [format_entry(entry, keys) for entry in own(tree) if entry.kind == "file"]


@pytest.mark.parametrize("options", [(), ("--options=mtree:all",), ("--options=mtree:use-set",)])
def test_a_listing_by_bsdtar_shows_no_change(tmp_path: Path, options: tuple[str, ...]) -> None:
    tree = bytes(tmp_path / "tree")
    os.mkdir(tree)
    nasty.make(tree)
    # Of a file with an ACL, bsdtar writes the mode without the mask that stat(2) shows.
    text = said("bsdtar", "-cf", "-", "--format=mtree", "--no-acls", *options, "-C", tree, ".")
    theirs, ours = sorted(parse(text.splitlines(keepends=True))), own(tree)
    assert [entry.path for entry in theirs] == [entry.path for entry in ours]
    assert not list(compare(theirs, ours))
    assert not list(compare(ours, theirs))


@pytest.mark.parametrize("dumped", [False, True])
def test_a_listing_by_mtree_shows_no_change(tree: bytes, tmp_path: Path, dumped: bool) -> None:
    text = said("mtree", "-c", "-p", tree, "-k", MTREE_KEYS)
    if dumped:
        (tmp_path / "theirs").write_bytes(text)
        text = said("mtree", "-C", "-f", tmp_path / "theirs", "-k", MTREE_KEYS)
    theirs, ours = sorted(parse(text.splitlines(keepends=True))), own(tree)
    assert [entry.path for entry in theirs] == [entry.path for entry in ours]
    assert not list(compare(theirs, ours))
    assert not list(compare(ours, theirs))


def test_a_change_is_seen_against_a_foreign_listing(tree: bytes) -> None:
    text = said("mtree", "-c", "-p", tree, "-k", MTREE_KEYS)
    nasty.write(tree + b"/a#b", b"another")
    os.chmod(tree + b"/#hash", 0o777)
    os.unlink(tree + b"/f")
    theirs = sorted(parse(text.splitlines(keepends=True)))
    found = [(change.path, change.change.value) for change in compare(theirs, own(tree))]
    assert found == [(b"/#hash", "metadata"), (b"/a#b", "edited"), (b"/f", "deleted")]


def test_records_of_our_listing_are_those_that_were_scanned(tree: bytes, tmp_path: Path) -> None:
    with write_listing(tree, tmp_path / "ours").open("rb") as stream:
        assert list(read_records(stream)) == list(scan_records(tree, ALL, skipped=[], digest=True))

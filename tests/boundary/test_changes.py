"""From deeds on a real tree to the changes that two listings show. Touches a folder of its own. Needs root, setcap."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.boundary import nasty
from tklb.diff.listing import compare_listings, format_listing
from tklb.diff.rules import Rule, Rules
from tklb.host.files.scan_records import scan_records

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes devices and sets owners")
ALL = Rules([Rule(include=True, pattern=b"/")])


def rewrite_unseen(path: bytes) -> None:
    """Change the content and set size and mtime back."""
    status = os.stat(path)
    with open(path, "r+b") as stream:
        stream.write(b"Y")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def become_a_folder(path: bytes) -> None:
    os.unlink(path)
    os.makedirs(path + b"/in")


def become_a_file(path: bytes) -> None:
    subprocess.run(["rm", "-r", path], check=True)
    nasty.write(path)


def point_elsewhere(path: bytes) -> None:
    os.unlink(path)
    os.symlink(b"elsewhere", path)


def another_device(path: bytes) -> None:
    os.unlink(path)
    os.mknod(path, 0o20600, os.makedev(1, 5))


def break_away(path: bytes) -> None:
    """Leave a group of hard links, with the same content."""
    subprocess.run(["cp", "-p", path, path + b"~"], check=True)
    os.rename(path + b"~", path)


# Deed, path, changes without digests, changes with; both listings are of one kind.
NOTHING: list[tuple[bytes, str]] = []
FOLDER = b"/dir/sub*dir"
DEEDS: list[tuple[Callable[[bytes], object], bytes, list[tuple[bytes, str]], list[tuple[bytes, str]] | None]] = [
    (lambda path: nasty.write(path, b"another"), b"/f", [(b"/f", "edited")], None),
    (rewrite_unseen, b"/f-a", [(b"/f-a", "edited")], None),
    (rewrite_unseen, b"/before 1970", [(b"/before 1970", "edited")], None),
    (os.utime, b"/a#b", [(b"/a#b", "edited")], [(b"/a#b", "metadata")]),
    (lambda path: os.utime(path, ns=(0, -1_500_000_001)), b"/f.b", [(b"/f.b", "edited")], [(b"/f.b", "metadata")]),
    (lambda path: os.chmod(path, 0o4711), b"/bad\xff\xfeutf", [(b"/bad\xff\xfeutf", "metadata")], None),
    (lambda path: os.chown(path, 54321, 0), b"/new\nline", [(b"/new\nline", "metadata")], None),
    (lambda path: os.lchown(path, 0, 7), b"/dangling", [(b"/dangling", "metadata")], None),
    (lambda path: os.setxattr(path, b"user.x", b"1"), b"/tab\there", [(b"/tab\there", "metadata")], None),
    (lambda path: os.removexattr(path, b"user.empty"), b"/attributes", [(b"/attributes", "metadata")], None),
    (lambda path: subprocess.run(["setcap", "-r", path], check=True), b"/capable", [(b"/capable", "metadata")], None),
    (lambda path: subprocess.run(["setfacl", "-b", path], check=True), b"/acl", [(b"/acl", "metadata")], None),
    (lambda path: subprocess.run(["setfacl", "-k", path], check=True), b"/dir", [(b"/dir", "metadata")], None),
    (os.unlink, b"/glob*?[a]", [(b"/glob*?[a]", "deleted")], None),
    (os.unlink, b"/hard", [(b"/hard", "deleted")], None),
    (lambda path: os.link(path, path + b"-too"), b"/a:b", [(b"/a:b-too", "new")], None),
    (break_away, b"/hard", [(b"/hard", "edited")], [(b"/hard", "metadata")]),
    (nasty.write, b"/=new#\n", [(b"/=new#\n", "new")], None),
    (lambda path: os.rename(path, path + b"2"), b"/$d", [(b"/$d", "deleted"), (b"/$d2", "new")], None),
    (become_a_folder, b"/~t", [(b"/~t", "deleted"), (b"/~t", "new"), (b"/~t/in", "new")], None),
    (become_a_file, FOLDER, [(FOLDER, "deleted"), (FOLDER, "new"), (FOLDER + b"/dee\np", "deleted"),
                             (FOLDER + b"/dee\np/file", "deleted")], None),
    (point_elsewhere, b"/ln", [(b"/ln", "edited")], None),
    (point_elsewhere, b"/f", [(b"/f", "deleted"), (b"/f", "new")], None),
    (another_device, b"/chr", [(b"/chr", "edited")], None),
    (os.utime, b"/dir", NOTHING, None),
    (os.utime, b"/fifo", NOTHING, None),
    (os.unlink, b"/socket", NOTHING, None),
    (lambda path: Path(os.fsdecode(path)).read_bytes(), b"/f", NOTHING, None),
]  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> bytes:
    tree = bytes(tmp_path / "tree")
    os.mkdir(tree)
    nasty.make(tree)
    return tree


def write_listing(tree: bytes, to: Path, *, digest: bool) -> Path:
    with to.open("wb") as stream:
        stream.writelines(format_listing(scan_records(tree, ALL, skipped=[], digest=digest)))
    return to


@pytest.mark.parametrize("digest", [False, True])
@pytest.mark.parametrize("number", range(len(DEEDS)))
def test_a_deed_shows_as_the_change_it_is(tree: bytes, tmp_path: Path, number: int, digest: bool) -> None:
    deed, path, without, with_digests = DEEDS[number]
    base = write_listing(tree, tmp_path / "base", digest=digest)
    deed(tree + path)
    now = write_listing(tree, tmp_path / "now", digest=digest)
    expected = with_digests if digest and with_digests is not None else without
    with base.open("rb") as old, now.open("rb") as new:
        assert [(change.path, change.change.value) for change in compare_listings(old, new)] == expected

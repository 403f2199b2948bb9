"""The scan once more: what an earlier one knows is not read again, and digests are those of what is there.

Touches folders of its own. Needs root, setfacl and setcap.
"""

import io
import os
import subprocess
import threading
from pathlib import Path

import pytest

from tests.boundary import nasty
from tests.boundary.test_scan import ALL, entries
from tests.unit.entries import record_of
from tklb.diff.listing import Record, format_listing, read_records
from tklb.host.files import digest as digest_module
from tklb.host.files.digest import ContentChanged, digest_with_status, file_digest
from tklb.host.files.scan import scan
from tklb.host.files.scan_records import scan_records
from tklb.model.files import FileEntry
from tklb.model.report import Skipped

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes devices and sets owners")


@pytest.fixture
def tree(tmp_path: Path) -> bytes:
    tree = bytes(tmp_path / "tree")
    os.mkdir(tree)
    return tree


@pytest.fixture
def nasty_tree(tree: bytes) -> bytes:
    nasty.make(tree)
    return tree


# ---------------------------------------------------------------- what an earlier scan knows


def known_of(tree: bytes) -> tuple[list[FileEntry], list[Record]]:
    """Give what an earlier scan knew, with digests and attributes that are plainly from there."""
    known = [
        entry._replace(sha256="ab" * 32 if entry.kind == "file" else None, xattrs=((b"user.known", b"1"),))
        for entry in entries(tree).values()
    ]
    return known, list(read_records(io.BytesIO(b"".join(format_listing(map(record_of, known))))))


def both_scans(tree: bytes, known: tuple[list[FileEntry], list[Record]], *, digest: bool) -> list[FileEntry]:
    found = list(scan(tree, ALL, skipped=[], known=known[0], digest=digest))
    as_records = list(scan_records(tree, ALL, skipped=[], known=known[1], digest=digest))
    assert as_records == list(map(record_of, found))
    return found


@pytest.mark.parametrize("digest", [False, True])
def test_what_is_known_of_an_unchanged_file_is_not_read_again(nasty_tree: bytes, digest: bool) -> None:
    known = known_of(nasty_tree)
    assert both_scans(nasty_tree, known, digest=digest) == known[0]


DEEDS = {
    "mode": lambda path: os.chmod(path, 0o777),
    "owner": lambda path: os.chown(path, 5, 5),
    "mtime": lambda path: os.utime(path, ns=(1, 1)),
    "ctime": lambda path: os.utime(path, ns=(os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns)),
    "size": lambda path: os.truncate(path, 999),
    "link": lambda path: os.link(path, path + b" link"),
    "replaced": lambda path: (nasty.write(path + b".new", b"y"), os.rename(path + b".new", path)),
}


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("name", [b"f", b"a#b"])
def test_what_is_known_of_a_changed_file_is_forgotten(nasty_tree: bytes, deed: str, name: bytes) -> None:
    known = known_of(nasty_tree)
    DEEDS[deed](nasty_tree + b"/" + name)  # type: ignore[no-untyped-call]
    found = {entry.path: entry for entry in both_scans(nasty_tree, known, digest=True)}
    assert found[b"/" + name].xattrs == ()
    assert found[b"/" + name].sha256 == file_digest(nasty_tree + b"/" + name, "sha256")
    assert found[b"/-dash"].sha256 == "ab" * 32


def test_a_known_listing_without_digests_does_not_spare_reading(nasty_tree: bytes) -> None:
    known = list(entries(nasty_tree).values())
    found = both_scans(nasty_tree, (known, list(map(record_of, known))), digest=True)
    assert found == list(entries(nasty_tree, digest=True).values())


def test_known_paths_that_are_gone_or_new_do_no_harm(nasty_tree: bytes) -> None:
    known = known_of(nasty_tree)
    os.unlink(nasty_tree + b"/f")
    nasty.write(nasty_tree + b"/another")
    found = {entry.path: entry for entry in both_scans(nasty_tree, known, digest=False)}
    assert b"/f" not in found
    assert found[b"/another"].sha256 is None
    assert found[b"/~t"].sha256 == "ab" * 32


# ---------------------------------------------------------------- digests


def test_a_pipe_or_link_has_no_digest_and_hangs_nobody(nasty_tree: bytes) -> None:
    for name in (b"fifo", b"abs", b"dir", b"absent", b"socket"):
        with pytest.raises(OSError, match=r"."):
            file_digest(nasty_tree + b"/" + name, "sha256")


def test_md5_is_there_for_what_dpkg_recorded(nasty_tree: bytes) -> None:
    assert (
        file_digest(nasty_tree + b"/f", "md5")
        == subprocess.run(["md5sum", nasty_tree + b"/f"], capture_output=True, check=True).stdout.split()[0].decode()
    )


def test_the_time_of_access_is_left_alone(nasty_tree: bytes) -> None:
    path = nasty_tree + b"/f"
    os.utime(path, ns=(1, os.stat(path).st_mtime_ns))
    list(scan(nasty_tree, ALL, skipped=[], digest=True))
    assert os.stat(path).st_atime_ns == 1


def test_every_change_after_a_digest_shows_in_the_status(tree: bytes) -> None:
    """However quickly it follows: a digest that is carried over must not outlive its content."""
    for number in range(20):
        nasty.write(tree + b"/quick", b"old%d" % number)
        _, status = digest_with_status(tree + b"/quick", "sha256")
        with open(tree + b"/quick", "r+b") as stream:
            stream.write(b"new")
        assert os.stat(tree + b"/quick").st_ctime_ns != status.st_ctime_ns


def test_one_change_while_reading_is_forgiven_and_the_new_content_counts(
    tree: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    nasty.write(tree + b"/log", b"old")
    left, true_read = [1], os.read

    def read(descriptor: int, length: int) -> bytes:
        if left and left.pop():
            nasty.write(tree + b"/log", b"newer")
        return true_read(descriptor, length)

    monkeypatch.setattr(digest_module.os, "read", read)
    skipped: list[Skipped] = []
    entry = next(entry for entry in scan(tree, ALL, skipped=skipped, digest=True) if entry.path == b"/log")
    assert not skipped
    assert entry.size == 5
    assert entry.sha256 == file_digest(tree + b"/log", "sha256")


def test_a_file_that_never_rests_is_named(tree: bytes) -> None:
    nasty.write(tree + b"/log", b"x" * 30_000_000)
    stop = threading.Event()

    def keep_writing() -> None:
        with open(tree + b"/log", "r+b", buffering=0) as stream:
            while not stop.wait(0.001):
                stream.write(b"y")

    writer = threading.Thread(target=keep_writing)
    writer.start()
    skipped: list[Skipped] = []
    try:
        with pytest.raises(ContentChanged):
            file_digest(tree + b"/log", "sha256")
        found = {entry.path: entry for entry in scan(tree, ALL, skipped=skipped, digest=True)}
    finally:
        stop.set()
        writer.join()
    assert skipped == [Skipped(b"/log", "changed while being read")]
    assert found[b"/log"].sha256 is None

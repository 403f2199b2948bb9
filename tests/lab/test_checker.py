"""The checker finds every planted fault by name, and nothing where two roots are equal.

Takes two small roots made with the lab's own tools in a temporary folder, no appliance; needs root.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import nasty
from tests.lab.checker import compare, compare_roots, main, record
from tests.lab.fixture_fs import FixtureFs

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="device nodes and owners need root")]

NASTY = nasty.FOLDER
TOPS = ["/srv", "/etc"]
USERS = (
    "root:0", "nobody:65534", "alice:1000", "bob:1001", "alice-too:1000", "collector:102", "lonely:103",
    "first:104", "second:105", "solo:106", "worker:999", "acme-agent:997",
)  # fmt: skip
GROUPS = (*USERS[:-7], "nogroup:65534", "editors:1500", "disk:6", "machines:996", *USERS[-7:])


def accounts(fs: FixtureFs, shift: int = 0) -> None:
    """Write both books; `shift` moves every human and system id, as on another machine."""
    for book, lines, rest in ((b"passwd", USERS, b"0::/:/bin/sh"), (b"group", GROUPS, b"")):
        parted = (line.encode().split(b":") for line in lines)
        moved = ((name, int(number) + (shift if 6 < int(number) < 60000 else 0)) for name, number in parted)
        fs.file(b"/etc/" + book, b"".join(b"%s:x:%d:%s\n" % (name, number, rest) for name, number in moved))


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FixtureFs]:
    """A root with everything nasty in it; not to be changed."""
    fs = FixtureFs(tmp_path_factory.mktemp("checker") / "left")
    accounts(fs)
    fs.file(b"/etc/protocols", b"ip 0 IP\n")
    fs.file(b"/etc/issue.net", b"Debian\n")
    nasty.make(fs)
    yield fs
    subprocess.run(["rm", "-rf", fs.root], check=True)


@pytest.fixture
def right(left: FixtureFs, tmp_path: Path) -> Iterator[FixtureFs]:
    """A copy of it."""
    copy(left.root, tmp_path / "right")
    yield FixtureFs(tmp_path / "right")
    subprocess.run(["rm", "-rf", tmp_path / "right"], check=True)


def copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--sparse=auto", source, target], check=True)


def rewrite(fs: FixtureFs, inside: bytes, change: Callable[[bytes], object]) -> None:
    """Change something and put file's and parent's mtime back, so that only the planted fault differs."""
    parent = os.path.dirname(inside)
    before = [(path, os.lstat(fs.path(path)).st_mtime_ns) for path in (inside, parent)]
    change(fs.path(inside))
    for path, moment in before:
        if fs.exists(path):
            fs.time(path, moment)


def edit(path: bytes) -> None:
    with open(path, "r+b") as file:
        file.write(b"X")


def fill_holes(path: bytes) -> None:
    subprocess.run(["fallocate", "--length", str(os.path.getsize(path)), path], check=True)


def turn_into_folder(path: bytes) -> None:
    os.unlink(path)
    os.mkdir(path)


def turn_into_file(path: bytes) -> None:
    os.unlink(path)
    os.mknod(path, 0o600 | stat.S_IFREG)


def retarget(path: bytes) -> None:
    os.unlink(path)
    os.symlink(b"elsewhere", path)


def renumber(path: bytes) -> None:
    os.unlink(path)
    os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(1, 5))


def unlink_group(path: bytes) -> None:
    content, status = Path(os.fsdecode(path)).read_bytes(), os.lstat(path)
    os.unlink(path)
    Path(os.fsdecode(path)).write_bytes(content)
    os.chown(path, status.st_uid, status.st_gid)
    os.chmod(path, stat.S_IMODE(status.st_mode))


def join_groups(path: bytes) -> None:
    os.unlink(path)
    os.link(os.path.join(os.path.dirname(path), b"first"), path)


def chown(path: bytes) -> None:
    os.lchown(path, 4242, -1)


def chgrp(path: bytes) -> None:
    os.lchown(path, -1, 4242)


def drop_acl_entry(path: bytes) -> None:
    value = os.getxattr(path, "system.posix_acl_access")
    os.setxattr(path, "system.posix_acl_access", value[:12] + value[20:])


def unlabel_link(path: bytes) -> None:
    os.removexattr(path, "trusted.on-link", follow_symlinks=False)


def one_nanosecond(path: bytes) -> None:
    status = os.lstat(path)
    moment = status.st_mtime_ns + 1
    os.utime(path, ns=(moment, moment), follow_symlinks=False)


# path below FOLDER, what is done to it on the right, what the checker must call it
FAULTS: tuple[tuple[bytes, Callable[[bytes], object], str], ...] = (
    (b"/names/new\nline", edit, "content"),
    (b"/names/\xff\xfe not utf-8", edit, "content"),
    (b"/names/*", lambda path: os.truncate(path, 3), "size"),
    (b"/names/-rf", os.unlink, "missing"),
    (b"/empty/folder/in/folder", os.rmdir, "missing"),
    (b"/special/socket", lambda path: os.mknod(path + b"-no-more", stat.S_IFREG | 0o644), "unexpected"),
    (b"/empty/file", turn_into_folder, "kind"),
    (b"/special/fifo", turn_into_file, "kind"),
    (b"/modes/file-4755", lambda path: os.chmod(path, 0o755), "mode"),
    (b"/modes/folder-7777", lambda path: os.chmod(path, 0o6777), "mode"),
    (b"/modes/closed-0000", lambda path: os.chmod(path, 0o500), "mode"),
    (b"/special/null", lambda path: os.chmod(path, 0o600), "mode"),
    (b"/owners/of-alice", chown, "owner"),
    (b"/owners/nameless", chown, "owner"),
    (b"/owners/link-of-alice", chown, "owner"),
    (b"/owners/of-bob", chgrp, "group"),
    (b"/acl/shared", drop_acl_entry, "acl"),
    (b"/acl/folder", lambda path: os.removexattr(path, "system.posix_acl_default"), "default acl"),
    (b"/acl/nameless", lambda path: os.removexattr(path, "system.posix_acl_access"), "acl"),
    (b"/names/tab\there", lambda path: os.setxattr(path, "user.new", b""), "xattr user.new"),
    (b"/xattr/labelled", lambda path: os.setxattr(path, "user.comment", b"other"), "xattr user.comment"),
    (b"/xattr/labelled", lambda path: os.removexattr(path, "user.empty"), "xattr user.empty"),
    (b"/xattr/labelled", lambda path: os.removexattr(path, "trusted.secret"), "xattr trusted.secret"),
    (b"/xattr/folder", lambda path: os.removexattr(path, "user.on-folder"), "xattr user.on-folder"),
    (b"/xattr/link", unlabel_link, "xattr trusted.on-link"),
    (b"/caps/tool", lambda path: os.removexattr(path, "security.capability"), "capability"),
    (b"/hard/second", unlink_group, "hard links"),
    (b"/hard/sub/third", unlink_group, "hard links"),
    (b"/hard/pair", join_groups, "hard links"),
    (b"/sparse/islands", fill_holes, "holes"),
    (b"/sparse/all-hole", fill_holes, "holes"),
    (b"/symlinks/dangling", retarget, "target"),
    (b"/symlinks/not-utf8", retarget, "target"),
    (b"/special/null", renumber, "device"),
    (b"/times/nanosecond", one_nanosecond, "mtime"),
    (b"/times/before-1970", one_nanosecond, "mtime"),
    (b"/times/folder-nanosecond", one_nanosecond, "mtime"),
    (b"/symlinks/dangling", one_nanosecond, "mtime"),
)  # fmt: skip


def test_a_copy_has_no_mismatch(left: FixtureFs, right: FixtureFs) -> None:
    assert len(record(left.root, TOPS)) > 250
    assert compare_roots(left.root, right.root, TOPS) == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault[0].decode('latin-1')!a} {fault[2]}")
def test_every_planted_fault_is_found_by_name(
    left: FixtureFs, tmp_path: Path, fault: tuple[bytes, Callable[[bytes], object], str]
) -> None:
    below, plant, what = fault
    section = NASTY + b"/" + below.split(b"/")[1]
    planted = FixtureFs(tmp_path / "planted")
    planted.folder(NASTY)
    copy(left.root / "etc", planted.root / "etc")
    copy(Path(os.fsdecode(left.path(section))), Path(os.fsdecode(planted.path(section))))
    assert compare_roots(left.root, planted.root, [os.fsdecode(section)]) == []
    if what == "mtime":
        plant(planted.path(NASTY + below))
    else:
        rewrite(planted, NASTY + below, plant)
    found = {
        (mismatch.path, mismatch.what) for mismatch in compare_roots(left.root, planted.root, [os.fsdecode(section)])
    }
    subprocess.run(["rm", "-rf", planted.root], check=True)
    blamed = os.fsdecode(NASTY + below) + ("-no-more" if what == "unexpected" else "")
    assert (blamed, what) in found
    assert what == "hard links" or {path for path, _ in found} == {blamed}


def test_owners_are_compared_by_name_not_number(left: FixtureFs, right: FixtureFs) -> None:
    moved = {int(line.split(":")[1]) for line in (*USERS, *GROUPS) if 6 < int(line.split(":")[1]) < 60000}
    accounts(right, shift=5)
    for folder, folders, files in os.walk(right.path(NASTY), topdown=False):
        for path in (os.path.join(folder, name) for name in folders + files):
            status = os.lstat(path)
            owner = [number + 5 if number in moved else -1 for number in (status.st_uid, status.st_gid)]
            os.lchown(path, *owner)
            if not stat.S_ISLNK(status.st_mode):
                os.chmod(path, stat.S_IMODE(status.st_mode))
    found = compare_roots(
        left.root, right.root, [os.fsdecode(NASTY)], allowed=["/srv/nasty/acl/**", "/srv/nasty/caps/*"]
    )
    assert found == []


def test_names_swapped_below_the_same_numbers_are_found(left: FixtureFs, right: FixtureFs) -> None:
    book = right.root / "etc/passwd"
    swapped = {"first": "second", "second": "first"}
    lines = (line.split(":", 1) for line in book.read_text().splitlines())
    book.write_text("".join(f"{swapped.get(name, name)}:{rest}\n" for name, rest in lines))
    found = {(it.path, it.what) for it in compare_roots(left.root, right.root, [os.fsdecode(NASTY)])}
    assert {("/srv/nasty/owners/of-first", "owner"), ("/srv/nasty/acl/shared", "acl")} <= found


def test_an_alias_lost_is_found_at_every_file_of_the_owner(left: FixtureFs, right: FixtureFs) -> None:
    book = right.root / "etc/passwd"
    book.write_text("".join(line for line in book.read_text().splitlines(True) if not line.startswith("alice-too")))
    found = compare_roots(left.root, right.root, ["/srv/nasty/hard/first"])
    assert [(it.what, it.left, it.right) for it in found] == [("owner", "alice+alice-too", "alice")]


def test_allowed_differences_are_passed_over_and_no_others(left: FixtureFs, right: FixtureFs) -> None:
    edit(right.path(b"/etc/issue.net"))
    edit(right.path(NASTY + b"/names/*"))
    edit(right.path(NASTY + b"/names/new\nline"))
    whole = compare_roots(left.root, right.root, TOPS, allowed=["/etc/issue*", "/srv/nasty/names/*"])
    assert whole == []
    content_only = compare_roots(left.root, right.root, TOPS, allowed=[("/**", "content")])
    assert {it.what for it in content_only} == {"mtime"}
    assert len(compare_roots(left.root, right.root, TOPS, allowed=["/*", "/srv/*"])) == 6


def test_folder_times_count_only_where_asked(left: FixtureFs, right: FixtureFs) -> None:
    os.utime(right.path(b"/etc"))
    os.utime(right.path(NASTY))
    found = compare(record(left.root, TOPS), record(right.root, TOPS), folder_times=lambda path: path != "/etc")
    assert [(it.path, it.what) for it in found] == [("/srv/nasty", "mtime")]


def test_recorded_facts_compare_like_the_root(
    left: FixtureFs, right: FixtureFs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["record", str(left.root), *TOPS]) == 0
    (tmp_path / "facts.json").write_text(capsys.readouterr().out)
    assert main(["compare", str(tmp_path / "facts.json"), str(right.root), *TOPS]) == 0
    os.unlink(right.path(NASTY + b"/names/\xff\xfe not utf-8"))
    assert (
        main(["compare", str(tmp_path / "facts.json"), str(right.root), "/srv/nasty", "--allow", "/srv/nasty/names"])
        == 3
    )
    assert "missing" in capsys.readouterr().out

"""Every nasty name and every nasty kind of metadata, in one folder of a box.

Takes a `FixtureFs` with the accounts that `used_server.add_people` makes; touches FOLDER, a new name in /etc and one
edit there. Every item is a function of its own, so that a failing round trip tells which one it was.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable

from tests.lab.fixture_fs import CAP_NET_BIND_SERVICE, CAP_NET_RAW, FixtureFs

FOLDER = b"/srv/nasty"
NAMELESS = 54321
NS = 1_000_000_000
NAMES = (
    b"new\nline", b"tab\there", b" leading and trailing ", b"back\\slash", b"back\\012slash", b"\xff\xfe not utf-8",
    b"caf\xc3\xa9", b"cafe\xcc\x81", b"*", b"?", b"[a-z]", b"[!x]", b"{a,b}", b"**", b"'single'", b'"double"',
    b"`tick`", b"$HOME", b"$(id)", b"-rf", b"--help", b"-", b"~", b"#comment", b"semi;colon", b"pipe|", b"a&b",
    b"<angle>", b"per%cent", b"%s%n", b"co:lon", b"eq=ual", b"com,ma", b"!bang", b"...", b".hidden", b" ",
    b"\x01\x02\x1b[31m", b"\x7f", b"\r", b"carriage\rreturn", b"null", b"set", b"time=1.0", b"type=dir", b"a" * 255,
    b"\xe2\x82\xac" * 85, b"\xe2\x80\xaetxt.exe", b"a.", b"CON", b"@", b"%40", b"\\", b"\\x41", b"\\101",
    b"dup+ity.difftar.gz",
)  # fmt: skip


def names(fs: FixtureFs) -> None:
    for number, name in enumerate(NAMES):
        fs.file(FOLDER + b"/names/" + name, b"content %d\n" % number, owner="alice")
        fs.folder(FOLDER + b"/folders/" + name)
        fs.file(FOLDER + b"/folders/" + name + b"/" + name, b"inside %d\n" % number)
        fs.link(FOLDER + b"/links/" + name, name)


def depth(fs: FixtureFs) -> None:
    fs.file(FOLDER + b"/deep" + b"/d" * 100 + b"/leaf", b"deep\n")
    fs.file(FOLDER + b"/long" + (b"/" + b"l" * 200) * 12 + b"/leaf", b"long\n")


def modes(fs: FixtureFs) -> None:
    for mode in (0o4755, 0o2755, 0o6755, 0o1644, 0o4644, 0o2644, 0o7777, 0o000, 0o400, 0o200, 0o111, 0o666):
        fs.file(FOLDER + b"/modes/file-%04o" % mode, b"%o\n" % mode, mode, "bob")
        fs.folder(FOLDER + b"/modes/folder-%04o" % mode, mode, "bob")
    for mode in (0o555, 0o000, 0o500):
        inside = fs.folder(FOLDER + b"/modes/closed-%04o" % mode)
        fs.file(inside + b"/kept", b"in a read-only folder\n", 0o444)
        os.chmod(fs.path(inside), mode)


def owners(fs: FixtureFs) -> None:
    for owner in ("alice", "bob", "collector", "lonely", "first", "second", "solo", "worker", "acme-agent", "nobody"):
        fs.file(FOLDER + b"/owners/of-" + owner.encode(), b"mine\n")
        fs.own(FOLDER + b"/owners/of-" + owner.encode(), owner, "nogroup" if owner == "nobody" else "editors")
    for group in ("collector", "first", "second", "solo", "worker", "acme-agent", "machines"):
        fs.own(fs.file(FOLDER + b"/owners/group-" + group.encode()), "root", group)
    fs.file(FOLDER + b"/owners/nameless", b"whose?\n")
    fs.own(FOLDER + b"/owners/nameless", NAMELESS, NAMELESS + 1)
    fs.folder(FOLDER + b"/owners/nameless-folder", owner=NAMELESS)
    fs.own(fs.link(FOLDER + b"/owners/link-of-alice", b"nameless"), "alice")


def acls(fs: FixtureFs) -> None:
    shared = fs.file(FOLDER + b"/acl/shared", b"shared\n", 0o640, "alice")
    named = "user:bob:rw- user:collector:r-- user:first:r-- user:second:rw- user:solo:r-- group:editors:rw-"
    fs.acl(shared, f"u::rw- {named} g::r-- mask::rw- o::---")
    fs.acl(fs.file(FOLDER + b"/acl/nameless"), f"u::rw- user:{NAMELESS}:r-- g::r-- mask::r-- o::---")
    fs.acl(fs.file(FOLDER + b"/acl/masked"), "u::rwx user:bob:rwx g::rwx group:editors:rwx mask::r-- o::---")
    folder = fs.folder(FOLDER + b"/acl/folder", 0o2770, "alice")
    fs.acl(folder, "u::rwx user:bob:r-x g::rwx mask::rwx o::---")
    fs.acl(folder, "u::rwx user:bob:rwx g::r-x group:editors:r-x mask::rwx o::---", "default")
    fs.file(folder + b"/heir", b"inherits\n")


def xattrs(fs: FixtureFs) -> None:
    labelled = fs.file(FOLDER + b"/xattr/labelled", b"labelled\n")
    fs.xattr(labelled, "user.comment", b"plain words")
    fs.xattr(labelled, "user.binary", bytes(range(256)))
    fs.xattr(labelled, "user.empty", b"")
    fs.xattr(labelled, "user.long", b"v" * 2000)
    fs.xattr(labelled, b"user.caf\xc3\xa9 =\n\\", b"odd name")
    fs.xattr(labelled, "trusted.secret", b"for root's eyes\0\xff")
    fs.xattr(fs.folder(FOLDER + b"/xattr/folder"), "user.on-folder", b"yes")
    fs.xattr(fs.link(FOLDER + b"/xattr/link", b"labelled"), "trusted.on-link", b"yes")


def capabilities(fs: FixtureFs) -> None:
    tool = fs.file(FOLDER + b"/caps/tool", b"#!/bin/true\n", 0o755)
    fs.capability(tool, [CAP_NET_RAW])
    setuid = fs.file(FOLDER + b"/caps/tool-setgid", b"#!/bin/true\n", 0o2755, "bob")
    fs.capability(setuid, [CAP_NET_RAW, CAP_NET_BIND_SERVICE])


def hard_links(fs: FixtureFs) -> None:
    first = fs.file(FOLDER + b"/hard/first", b"one content, four names\n", 0o640, "alice")
    for name in (b"/hard/second", b"/hard/sub/third", b"/hard/a first in order\n"):
        os.makedirs(os.path.dirname(fs.path(FOLDER + name)), exist_ok=True)
        os.link(fs.path(first), fs.path(FOLDER + name))
    same = fs.file(FOLDER + b"/hard/same content, another file", b"one content, four names\n")
    os.link(fs.path(same), fs.path(FOLDER + b"/hard/pair"))
    fs.link(FOLDER + b"/hard/symlink", b"first")
    os.link(fs.path(FOLDER + b"/hard/symlink"), fs.path(FOLDER + b"/hard/symlink too"), follow_symlinks=False)
    os.mkfifo(fs.path(FOLDER + b"/hard/fifo"))
    os.link(fs.path(FOLDER + b"/hard/fifo"), fs.path(FOLDER + b"/hard/fifo too"))
    os.link(fs.path(b"/etc/protocols"), fs.path(b"/etc/protocols-of-ours"))


def sparse_files(fs: FixtureFs) -> None:
    folder = fs.folder(FOLDER + b"/sparse")
    for name, size, islands in ((b"all-hole", 5 << 20, ()), (b"islands", 20 << 20, (0, 7 << 20, 13 << 20))):
        with open(fs.path(folder + b"/" + name), "wb") as out:
            for offset in islands:
                out.seek(offset)
                out.write(b"island" * 1000)
            out.truncate(size)
    fs.file(folder + b"/zeros-but-not-sparse", b"\0" * 100_000)


def symlinks(fs: FixtureFs) -> None:
    targets = {
        b"dangling": b"no/such/file", b"absolute": b"/etc/hostname", b"relative": b"../sparse", b"up": b"..",
        b"loop": b"loop", b"loop-a": b"loop-b", b"loop-b": b"loop-a", b"trailing": b"../sparse/", b"dots": b"./././x",
        b"not-utf8": b"\xff\xfe", b"newline": b"a\nb", b"spaces": b" a b ", b"long": b"x/" * 1000, b"root": b"/",
        b"outside": b"../../../../../../../../etc/shadow", b"backslash": b"a\\nb",
    }  # fmt: skip
    for name, target in targets.items():
        fs.link(FOLDER + b"/symlinks/" + name, target)
    fs.time(FOLDER + b"/symlinks/dangling", 1_111_111_111_222_333_444)


def special_files(fs: FixtureFs) -> None:
    folder = fs.folder(FOLDER + b"/special")
    os.mkfifo(fs.path(folder + b"/fifo"), 0o620)
    os.mknod(fs.path(folder + b"/null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(fs.path(folder + b"/loop"), stat.S_IFBLK | 0o660, os.makedev(7, 5))
    os.mknod(fs.path(folder + b"/high"), stat.S_IFCHR | 0o600, os.makedev(300, 70_000))
    fs.own(folder + b"/loop", "root", "disk")
    # A socket is made by binding, whose address is short: reach it through a descriptor of its folder.
    reach = os.open(fs.path(folder), os.O_PATH)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{reach}/socket")
    os.close(reach)


def empties(fs: FixtureFs) -> None:
    fs.folder(FOLDER + b"/empty/folder/in/folder", 0o700, "alice")
    fs.file(FOLDER + b"/empty/file")


def times(fs: FixtureFs) -> None:
    moments = {b"nanosecond": 1_234_567_890_123_456_789, b"before-1970": -300_000_000 * NS + 123_456_789}
    moments |= {b"just-before-1970": -1, b"epoch": 0, b"after-2038": 4_102_444_800 * NS + 1}
    for name, moment in moments.items():
        fs.time(fs.file(FOLDER + b"/times/" + name, b"when?\n"), moment)
        fs.time(fs.folder(FOLDER + b"/times/folder-" + name), moment)


def same_but_for_ctime(fs: FixtureFs) -> None:
    """An edit of a shipped file that keeps its size and mtime."""
    before = os.lstat(fs.path(b"/etc/issue.net"))
    with open(fs.path(b"/etc/issue.net"), "r+b") as issue:
        issue.write(b"d")
    fs.time(b"/etc/issue.net", before.st_mtime_ns)


ITEMS: tuple[Callable[[FixtureFs], None], ...] = (
    names, depth, modes, owners, acls, xattrs, capabilities, hard_links, sparse_files, symlinks, special_files, empties,
    times, same_but_for_ctime,
)  # fmt: skip


def make(fs: FixtureFs) -> None:
    """Make them all."""
    for item in ITEMS:
        item(fs)

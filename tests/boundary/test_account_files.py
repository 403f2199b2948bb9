"""The account files on a real file system, judged by pwck, grpck and the C library."""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from random import Random

import pytest

from tests.lab.soak import examples
from tklb.diff.accounts.lines import GROUP, PASSWD, SHADOW, Form, is_special, parse, read_loosely
from tklb.diff.accounts.merge import merge_accounts
from tklb.errors import AccessRefused, Locked, NoSpace, RestoreRefused
from tklb.host.accounts import read_accounts, write_accounts
from tklb.model.accounts import Accounts
from tklb.model.plan import Role

HOUSE = Path(__file__).parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NEW = Accounts(
    passwd=(
        b"root:x:0:0:root:/root:/bin/sh",
        b"ntp:x:104:104::/:/bin/sh",
        b"bob:x:1000:1000::/:/bin/sh",
    ),
    group=(b"root:x:0:", b"shadow:x:42:", b"sudo:x:27:bob", b"ntp:x:104:", b"bob:x:1000:"),
    shadow=(b"root:*:19000:0:99999:7:::", b"ntp:!:19000::::::", b"bob:$y$b:19000:0:99999:7:::"),
    gshadow=(b"root:*::", b"shadow:*::", b"sudo:*::bob", b"ntp:!::", b"bob:!::"),
    subuid=(b"bob:100000:65536",),
    subgid=(b"bob:100000:65536",),
)
OLD = Accounts(
    passwd=(
        b"root:x:0:0:root:/root:/bin/sh",
        b"mysql:x:104:105::/:/bin/sh",
        b"lost:x:105:105::/:/bin/sh",
        b"alice:x:1000:1000::/:/bin/sh",
        b"toor:x:0:0:root:/root:/bin/sh",
    ),
    group=(b"root:x:0:", b"sudo:x:27:alice", b"mysql:x:105:", b"alice:x:1000:", b"bare:x:104:alice"),
    shadow=(b"root:$y$r:19000:0:99999:7:::", b"mysql:!:19000::::::", b"alice:$y$a:19000::::::", b"toor:*:1::::::"),
    gshadow=(b"root:*::", b"sudo:*::alice", b"mysql:!::", b"alice:!::"),
    subuid=(b"alice:100000:65536", b"1000:165536:65536"),
    subgid=(b"alice:100000:65536",),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root that is just big enough for pwck."""
    for folder in ("etc", "root", "bin"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bin/sh").touch(0o755)
    for field in fields(Accounts):
        path = tmp_path / "etc" / field.name
        path.write_bytes(b"".join(line + b"\n" for line in getattr(NEW, field.name)))
        path.chmod(0o640 if "shadow" in field.name else 0o644)
    return tmp_path


def merged(role: Role = Role.REPLACEMENT) -> Accounts:
    return merge_accounts(OLD, NEW, role, (frozenset(), frozenset())).accounts


def check_with_shadow_utils(root: Path) -> None:
    for tool in ("pwck", "grpck"):
        done = subprocess.run([tool, "-r", "-R", root], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, ""), done


# ---------------------------------------------------------------- reading and writing


@as_root
def test_pwck_and_grpck_find_nothing_wrong_after_a_merge(root: Path) -> None:
    check_with_shadow_utils(root)
    for role in Role:
        write_accounts(os.fsencode(root), merged(role))
        check_with_shadow_utils(root)


def test_a_second_merge_writes_nothing(root: Path) -> None:
    assert write_accounts(os.fsencode(root), merged()) == ("shadow", "gshadow", "group", "subuid", "subgid", "passwd")
    there = read_accounts(os.fsencode(root))
    assert there == merged()
    again = merge_accounts(OLD, there, Role.REPLACEMENT, (frozenset(), frozenset())).accounts
    assert write_accounts(os.fsencode(root), again) == ()


def test_former_files_are_kept_as_shadow_utils_keep_them(root: Path) -> None:
    before = (root / "etc/group").read_bytes()
    changed = replace(NEW, group=(*NEW.group, b"new:x:1001:"))
    assert write_accounts(os.fsencode(root), changed) == ("group",)
    assert (root / "etc/group-").read_bytes() == before
    assert (root / "etc/group").read_bytes() == before + b"new:x:1001:\n"
    assert sorted(os.listdir(root / "etc")) == sorted([".pwd.lock", "group-", *(f.name for f in fields(Accounts))])


@as_root
def test_owner_and_mode_stay_and_new_files_get_debians(root: Path) -> None:
    os.chown(root / "etc/shadow", 7, 8)
    (root / "etc/shadow").chmod(0o600)
    (root / "etc/gshadow").unlink()
    (root / "etc/subuid").unlink()
    write_accounts(os.fsencode(root), merged())
    found = {name: os.stat(root / "etc" / name) for name in ("shadow", "shadow-", "gshadow", "subuid", "passwd")}
    owners = {name: (at.st_uid, at.st_gid, stat.S_IMODE(at.st_mode)) for name, at in found.items()}
    assert owners == {
        "shadow": (7, 8, 0o600),
        "shadow-": (7, 8, 0o600),
        "gshadow": (0, 42, 0o640),
        "subuid": (0, 0, 0o644),
        "passwd": (0, 0, 0o644),
    }


def test_missing_files_are_empty_and_stay_missing(root: Path) -> None:
    for name in ("subuid", "subgid", "gshadow"):
        (root / "etc" / name).unlink()
    there = read_accounts(os.fsencode(root))
    assert there == replace(NEW, subuid=(), subgid=(), gshadow=())
    assert write_accounts(os.fsencode(root), there) == ()


@as_root
def test_immutable_account_files_change_and_are_immutable_again(root: Path) -> None:
    names = [root / "etc" / name for name in ("passwd", "shadow", "group")]
    subprocess.run(["chattr", "+i", *names], check=True)
    try:
        assert "passwd" in write_accounts(os.fsencode(root), merged())
        shown = subprocess.run(["lsattr", *names], check=True, capture_output=True, text=True).stdout
        assert ["i" in line.split()[0] for line in shown.splitlines()] == [True, True, True]
        assert read_accounts(os.fsencode(root)) == merged()
    finally:
        subprocess.run(["chattr", "-i", *names], check=True)


def test_accounts_without_root_are_never_written(root: Path) -> None:
    for passwd in ((), NEW.passwd[1:], (b"root:x:1:0::/:/bin/sh", *NEW.passwd[1:])):
        with pytest.raises(RestoreRefused, match="no root"):
            write_accounts(os.fsencode(root), replace(NEW, passwd=passwd))
    assert read_accounts(os.fsencode(root)) == NEW


# ---------------------------------------------------------------- links, locks, a full disk, a kill


@pytest.mark.parametrize("name", ["passwd", "shadow", ".pwd.lock"])
def test_a_link_is_refused(root: Path, name: str) -> None:
    victim = root / "victim"
    victim.write_bytes(b"keep\n")
    (root / "etc" / name).unlink(missing_ok=True)
    (root / "etc" / name).symlink_to(victim)
    with pytest.raises(AccessRefused):
        write_accounts(os.fsencode(root), merged())
    assert victim.read_bytes() == b"keep\n"


def test_a_linked_etc_is_refused(root: Path) -> None:
    (root / "etc").rename(root / "elsewhere")
    (root / "etc").symlink_to("elsewhere")
    with pytest.raises(AccessRefused):
        read_accounts(os.fsencode(root))


def test_a_fifo_is_refused_and_not_waited_for(root: Path) -> None:
    (root / "etc/subuid").unlink()
    os.mkfifo(root / "etc/subuid")
    with pytest.raises(AccessRefused, match="not a regular file"):
        read_accounts(os.fsencode(root))


@pytest.mark.parametrize("planted", ["passwd+", "passwd-"])
def test_links_planted_at_our_other_names_are_not_followed(root: Path, planted: str) -> None:
    victim = root / "victim"
    victim.write_bytes(b"keep\n")
    (root / "etc" / planted).symlink_to(victim)
    write_accounts(os.fsencode(root), merged())
    assert victim.read_bytes() == b"keep\n"
    assert read_accounts(os.fsencode(root)) == merged()


@contextmanager
def held_by_libc(root: Path) -> Iterator[None]:
    """Another process that holds the lock as every tool does: by lckpwdf(3)."""
    code = "import ctypes, os, sys; libc = ctypes.CDLL(None); os.chroot(sys.argv[1])"
    code += "; print(libc.lckpwdf(), flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stdin
        assert child.stdout.readline() == b"0\n"
        yield
        child.stdin.close()


@as_root
def test_the_lock_of_other_account_tools_is_waited_for_and_not_for_ever(root: Path) -> None:
    with held_by_libc(root), pytest.raises(Locked, match="changes accounts"):
        write_accounts(os.fsencode(root), merged(), wait=0.3)
    assert read_accounts(os.fsencode(root)) == NEW
    write_accounts(os.fsencode(root), merged(), wait=0.3)


@as_root
def test_a_full_disk_leaves_the_former_files(root: Path) -> None:
    held = read_accounts(os.fsencode(root))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", root / "etc"], check=True)
    try:
        write_accounts(os.fsencode(root), held)
        big = replace(held, shadow=(*held.shadow, b"filler:" + b"x" * 16_000 + b":1::::::"))
        with pytest.raises(NoSpace, match="shadow"):
            write_accounts(os.fsencode(root), big)
        assert read_accounts(os.fsencode(root)) == held
        assert not [name for name in os.listdir(root / "etc") if name.endswith("+")]
    finally:
        subprocess.run(["umount", root / "etc"], check=True)


@as_root
def test_a_kill_at_any_rename_locks_nobody_out_and_a_repeat_completes(root: Path) -> None:
    """Every name in passwd can log in as before or as wanted: its shadow line is there at any instant."""
    code = f"from tklb.host.accounts import *; write_accounts({os.fsencode(root)!r}, {merged()!r})"
    write = [sys.executable, "-c", code]
    kills = 0
    for number in range(1, 20):
        write_accounts(os.fsencode(root), NEW)
        inject = f"inject=rename,renameat,renameat2:signal=KILL:when={number}"
        trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=rename,renameat,renameat2", "-e", inject]
        done = subprocess.run([*trace, *write], cwd=HOUSE, check=False)
        there = read_accounts(os.fsencode(root))
        known = parse(SHADOW, there.shadow).entries
        assert all(name in known for name in parse(PASSWD, there.passwd).entries)
        groups = parse(GROUP, there.group).owners
        assert all(int(user.fields[3]) in groups for user in parse(PASSWD, there.passwd).entries.values())
        write_accounts(os.fsencode(root), merged())
        assert read_accounts(os.fsencode(root)) == merged()
        assert not [name for name in os.listdir(root / "etc") if name.endswith("+")]
        if done.returncode == 0:
            break
        kills += 1
    assert kills == 12


# ---------------------------------------------------------------- what the machine reads in a line


class _Passwd(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("password", ctypes.c_char_p), ("id", ctypes.c_uint32))


class _Group(ctypes.Structure):
    _fields_ = _Passwd._fields_


def read_by_libc(form: Form, file: Path, line: bytes) -> tuple[bytes, int] | None:
    """What fgetpwent(3) or fgetgrent(3) makes of a line."""
    libc = ctypes.CDLL(None)
    libc.fopen.restype, libc.fclose.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
    read = libc.fgetpwent if form is PASSWD else libc.fgetgrent
    read.restype, read.argtypes = ctypes.POINTER(_Passwd if form is PASSWD else _Group), (ctypes.c_void_p,)
    file.write_bytes(line + b"\n")
    stream = libc.fopen(bytes(file), b"r")
    found = read(stream)
    reading = (found.contents.name, found.contents.id) if found else None
    libc.fclose(stream)
    return reading


PARTS = (b"", b"a", b"x", b"0", b"5", b"-1", b"+7", b" 3", b"3 ", b"x\0y", b"\0", b"99999999999", b"4294967295", b"0x5")
PARTS += (b" b", b"#c", b"\t", b"\x0b1", b"0" * 30 + b"5")


@pytest.mark.parametrize("form", [PASSWD, GROUP], ids=["passwd", "group"])
def test_we_read_an_account_exactly_where_the_c_library_does(form: Form, tmp_path: Path) -> None:
    random, found = Random(0), 0
    for _ in range(examples(4000)):
        line = b":".join(random.choices(PARTS, k=random.randint(1, 8)))
        if is_special(line):
            continue
        strict = [(name, entry.id) for name, entry in parse(form, [line]).entries.items()]
        reading = read_by_libc(form, tmp_path / "file", line)
        assert (strict[0] if strict else read_loosely(form, line)) == reading, line
        found += reading is not None
    assert found > examples(4000) // 80

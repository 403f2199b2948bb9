"""Read and write the account files of a root file system: passwd, group, shadow, gshadow, subuid, subgid.

Takes the root; gives or takes Accounts. Touches only ROOT/etc, through its descriptor and never through a link.
A write holds the lock of lckpwdf(3), as shadow-utils, adduser and systemd-sysusers do. It keeps the former files as
`passwd-` and so on, as they do, and lifts the flags of chattr(1) for a while. At any moment each file is the old or the
new one.
"""

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator

from tklb.diff.accounts.lines import GROUP, PASSWD, parse, split_lines
from tklb.errors import AccessRefused, Locked, NoSpace, RestoreRefused
from tklb.host.files.flags import FlagReader, set_flags
from tklb.model.accounts import Accounts

# In the order of writing: login reads passwd first, so a name appears there when the rest of it exists.
FILES = ("shadow", "gshadow", "group", "subuid", "subgid", "passwd")
SECRET_FILES = frozenset({"shadow", "gshadow"})
LOCK = ".pwd.lock"
LOCK_SECONDS = 15.0  # as lckpwdf(3)
_LOCK_PAUSE = 0.1
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def read_accounts(root: bytes = b"/") -> Accounts:
    """Read the account files; a missing one is empty. Raises AccessRefused for links, other kinds and no permission."""
    with _open_etc(root) as folder:
        return Accounts(**{name: split_lines(_read_file(folder, name) or b"") for name in FILES})


def write_accounts(root: bytes, accounts: Accounts, wait: float = LOCK_SECONDS) -> tuple[str, ...]:
    """Write the files that differ, and give their names. Owner and mode stay; a new file gets those of Debian.

    `wait` is how long to wait for the lock, in seconds. Raises RestoreRefused for accounts without root, AccessRefused
    as read_accounts() does, Locked, NoSpace.
    """
    root_entry = parse(PASSWD, accounts.passwd).entries.get(b"root")
    if root_entry is None or root_entry.id != 0:
        raise RestoreRefused(reason="the merged accounts have no root with uid 0")
    with _open_etc(root) as folder, _hold_lock(folder, wait):
        found = {name: _read_file(folder, name) for name in FILES}
        differ = [name for name in FILES if split_lines(found[name] or b"") != getattr(accounts, name)]
        for name in differ:
            _replace(folder, name, found[name], accounts)
    return tuple(differ)


@contextlib.contextmanager
def _open_etc(root: bytes) -> Iterator[int]:
    top = os.open(root, _FOLDER)
    try:
        folder = os.open("etc", _FOLDER | os.O_NOFOLLOW, dir_fd=top)
    except OSError as exc:
        raise AccessRefused(address=os.path.join(root, b"etc"), reason=exc.strerror) from exc
    finally:
        os.close(top)
    try:
        yield folder
    finally:
        os.close(folder)


def _read_file(folder: int, name: str) -> bytes | None:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise AccessRefused(address=f"/etc/{name}", reason=exc.strerror) from exc
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise AccessRefused(address=f"/etc/{name}", reason="it is not a regular file")
        return stream.read()


@contextlib.contextmanager
def _hold_lock(folder: int, wait: float) -> Iterator[None]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(LOCK, flags, 0o600, dir_fd=folder)
    except OSError as exc:
        raise AccessRefused(address=f"/etc/{LOCK}", reason=exc.strerror) from exc
    try:
        _wait_for_lock(descriptor, time.monotonic() + wait)
        yield
    finally:
        os.close(descriptor)  # this frees the lock


def _wait_for_lock(descriptor: int, deadline: float) -> None:
    while not _try_lock(descriptor):
        if time.monotonic() >= deadline:
            raise Locked(holder=f"a program that changes accounts holds /etc/{LOCK}")
        time.sleep(_LOCK_PAUSE)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _replace(folder: int, name: str, former: bytes | None, accounts: Accounts) -> None:
    content = b"".join(line + b"\n" for line in getattr(accounts, name))
    owner, group, mode = _ownership(folder, name, accounts)
    letters = FlagReader().read(folder, name.encode())
    try:
        if letters:
            set_flags(folder, name.encode(), "")
        if former is not None:
            _write_file(folder, name + "-", former, (owner, group, mode))
        _write_file(folder, name, content, (owner, group, mode))
        if letters:
            set_flags(folder, name.encode(), letters)
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(path=f"/etc/{name}", reason=exc.strerror) from exc
        raise AccessRefused(address=f"/etc/{name}", reason=exc.strerror) from exc


def _ownership(folder: int, name: str, accounts: Accounts) -> tuple[int, int, int]:
    """Give uid, gid and mode: those of the file, or those for a new one."""
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)
    if name in SECRET_FILES:
        return 0, parse(GROUP, accounts.group).ids.get(b"shadow", 0), 0o640
    return 0, 0, 0o644


def _write_file(folder: int, name: str, content: bytes, ownership: tuple[int, int, int]) -> None:
    """Replace one file durably, whole or not at all."""
    owner, group, mode = ownership
    beside = name.rstrip("-") + "+"  # as shadow-utils names it; under the lock nobody else uses it
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(beside, flags, 0o600, dir_fd=folder), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fchown(stream.fileno(), owner, group)
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=folder)

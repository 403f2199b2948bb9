"""The accounts of this machine as the kernel sees them: act as one, who listens at a port, who runs nothing."""

import contextlib
import os
import pwd
from collections.abc import Container, Iterator
from pathlib import Path

_LISTENS = "0A"  # a state of tcp(7), as /proc/net/tcp writes it
_MOST_SYSTEM_ID = 999  # adduser.conf(5) gives people higher ones


@contextlib.contextmanager
def switch_account(account: str | None) -> Iterator[None]:
    """Have an account's effective ids: a server may ask the kernel who connects to its socket (unix(7), SO_PEERCRED).

    None, or whoever is not root: nothing changes.
    """
    if account is None or os.geteuid() != 0:
        yield
        return
    entry = pwd.getpwnam(account)
    group = os.getegid()
    os.setegid(entry.pw_gid)
    try:
        os.seteuid(entry.pw_uid)
        try:
            yield
        finally:
            os.seteuid(0)
    finally:
        os.setegid(group)


def is_listener(host: str, port: int, account: int) -> bool:
    """Whether only processes of an account (its id) listen at a port here; `host` is 127.0.0.1 or ::1. See proc(5)."""
    name, places = ("tcp6", {f"{0:032X}", f"{1 << 24:032X}"}) if ":" in host else ("tcp", {"0100007F", "00000000"})
    with contextlib.suppress(OSError):
        rows = (line.split() for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:])
        wanted = {f"{place}:{port:04X}" for place in places}
        owners = {row[7] for row in rows if row[3] == _LISTENS and row[1] in wanted}
        return owners == {str(account)}
    return False


def find_idle_account(taken: Container[str]) -> str | None:
    """The name of a system account as which nothing runs now and nobody logs in; none of the names `taken`."""
    active = _list_active_ids()
    for entry in sorted(pwd.getpwall(), key=lambda entry: entry.pw_uid):
        is_system = 0 < entry.pw_uid <= _MOST_SYSTEM_ID and entry.pw_shell.endswith(("/nologin", "/false"))
        if is_system and entry.pw_uid not in active and entry.pw_name not in taken:
            return entry.pw_name
    return None


def _list_active_ids() -> set[int]:
    """The user ids of all processes: the real, effective, saved and file system ones of each."""
    found: set[int] = set()
    for process in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it has ended
            lines = Path(f"/proc/{process}/status").read_text("utf-8", "surrogateescape").splitlines()
            found.update(int(word) for line in lines if line.startswith("Uid:") for word in line.split()[1:])
    return found

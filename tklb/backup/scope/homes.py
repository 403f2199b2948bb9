"""Homes of accounts that the install state does not have, wherever they are."""

import os
from collections.abc import Iterator

from tklb.diff.rules import Rules, split_path
from tklb.host.owned_paths import OwnedPaths
from tklb.model.accounts import AccountDelta, Accounts
from tklb.model.report import FoundPath

# Folders of the system: an account that names one of them as its home does not own it.
_SYSTEM_TOPS = frozenset(
    b"bin boot dev etc efi lib lib32 lib64 libx32 libo32 lost+found proc run sbin sys tmp nonexistent".split()
)
SHARED_FOLDERS = frozenset(
    b"/ /home /media /mnt /opt /root /srv /usr /var /var/backups /var/cache /var/empty /var/games /var/lib /var/local "
    b"/var/lock /var/log /var/mail /var/opt /var/run /var/spool /var/tmp /var/www".split()
)


def find_homes(accounts: Accounts, delta: AccountDelta, rules: Rules, owned: OwnedPaths) -> Iterator[FoundPath]:
    """Give the homes of added and changed users that no rule covers, and that are no folder of the system."""
    names = {*delta.users_added, *delta.users_changed}
    for line in accounts.passwd:
        name, *fields = line.split(b":")
        home = fields[4] if name in names and len(fields) >= 6 else b""
        if is_own_folder(home, owned) and rules.decide(home).rule is None and os.path.isdir(home):
            yield FoundPath(_normalise(home), f"home of {os.fsdecode(name)}")


def is_own_folder(path: bytes, owned: OwnedPaths) -> bool:
    """Whether a path may belong to one owner: no folder of the system, and none that a package brings."""
    try:
        names = split_path(path)
    except ValueError:
        return False
    whole = _normalise(path)
    return bool(names) and names[0] not in _SYSTEM_TOPS and whole not in SHARED_FOLDERS and whole not in owned


def _normalise(path: bytes) -> bytes:
    return b"/" + b"/".join(split_path(path))

"""Users and groups: the account files, line by line."""

from collections.abc import Mapping

from tklb.lazy_dataclass import dataclass
from tklb.model.report import Skipped


@dataclass(frozen=True, slots=True)
class Accounts:
    """The account files, line by line as they are (no newline at the end of a line); absent files are empty."""

    passwd: tuple[bytes, ...] = ()
    group: tuple[bytes, ...] = ()
    shadow: tuple[bytes, ...] = ()
    gshadow: tuple[bytes, ...] = ()
    subuid: tuple[bytes, ...] = ()
    subgid: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class AccountDelta:
    """Names of accounts that differ from the install state. Sorted."""

    users_added: tuple[bytes, ...] = ()
    users_changed: tuple[bytes, ...] = ()
    users_removed: tuple[bytes, ...] = ()
    groups_added: tuple[bytes, ...] = ()
    groups_changed: tuple[bytes, ...] = ()
    groups_removed: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class AccountMerge:
    """The merged account files, and where every id of the backed-up machine went (ids that stay are listed too).

    `skipped` are the privileges and accounts that do not come, because a name alone does not prove them.
    """

    accounts: Accounts
    uid_map: Mapping[int, int]
    gid_map: Mapping[int, int]
    warnings: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()

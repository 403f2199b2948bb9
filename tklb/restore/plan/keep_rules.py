"""The paths that a restore keeps as they are on this machine, with the reasons. They are only here.

Takes a path and a role; gives the rule that keeps the path. Pure.

A pattern is a path with all below it; `*` stands within one name. A limit can name a path of KEPT or KEPT_BY_CLONES and
so overwrite it (`--limit /etc/fstab`; neither `/etc` nor a glob does). Nothing overwrites NEVER_TOUCHED: those paths
come back in other ways, or would break the machine.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tklb.diff.rules import Rule, Rules
from tklb.model.plan import Role

Reasons = Mapping[bytes, str]


class KeepRule(NamedTuple):
    pattern: bytes
    reason: str


def _give_reason(reason: str, *patterns: bytes) -> dict[bytes, str]:
    return dict.fromkeys(patterns, reason)


KEPT: Reasons = {
    **_give_reason(
        "names this machine's disks",
        b"/etc/fstab", b"/etc/crypttab", b"/etc/mtab", b"/etc/mdadm", b"/etc/multipath", b"/etc/zfs/zpool.cache",
        b"/etc/lvm/archive", b"/etc/lvm/backup", b"/etc/lvm/devices",
    ),
    **_give_reason(
        "is how this machine reaches its network",
        b"/etc/network/interfaces", b"/etc/network/interfaces.d", b"/etc/netplan", b"/etc/systemd/network",
        b"/etc/NetworkManager/system-connections", b"/etc/wpa_supplicant", b"/var/lib/iwd", b"/etc/resolv.conf",
        b"/etc/udev/rules.d/*persistent*",
    ),
    **_give_reason(
        "is how this machine starts",
        b"/boot", b"/efi", b"/vmlinuz*", b"/initrd.img*", b"/usr/lib/modules", b"/lib/modules", b"/etc/grub.d",
        b"/etc/default/grub", b"/etc/default/grub.d", b"/etc/default/extlinux", b"/etc/extlinux", b"/etc/kernel",
        b"/etc/kernel-img.conf", b"/etc/initramfs-tools",
    ),
    **_give_reason(
        "tells this machine from others",
        b"/etc/machine-id", b"/var/lib/dbus/machine-id", b"/var/lib/systemd/random-seed", b"/etc/hostid",
        b"/etc/nvme/hostid", b"/etc/nvme/hostnqn", b"/etc/iscsi/initiatorname.iscsi",
    ),
    **_give_reason("names the package sources of this machine", b"/etc/apt/sources.list", b"/etc/apt/sources.list.d"),
}  # fmt: skip
SSH_HOST_KEYS = b"/etc/ssh/ssh_host_*_key*"
KEPT_BY_CLONES: Reasons = {
    **_give_reason("is this machine's name, which a clone keeps", b"/etc/hostname", b"/etc/hosts", b"/etc/mailname"),
    **_give_reason("is this machine's host key, which a clone keeps", SSH_HOST_KEYS),
    **_give_reason("is this machine's configuration of tklb, which a clone keeps", b"/etc/tklb"),
}
NEVER_DELETED: Reasons = {
    **_give_reason("is a kind of host key that only this machine has", SSH_HOST_KEYS),
    **_give_reason("is this machine's name", b"/etc/hostname", b"/etc/hosts"),
}
# an exact restore removes what the snapshot does not know, but not this
NEVER_UNKNOWN: Reasons = {
    **_give_reason(
        "is what the package sources of this machine need",
        b"/etc/apt/keyrings",
        b"/etc/apt/trusted.gpg",
        b"/etc/apt/trusted.gpg.d",
        b"/etc/apt/auth.conf",
        b"/etc/apt/auth.conf.d",
    ),
    **_give_reason(
        "is tklb itself", b"/opt/tklb", b"/etc/tklb", b"/usr/local/bin/tklb", b"/usr/local/share/man/man*/tklb*"
    ),
}
_ACCOUNT_FILES = tuple(b"/etc/" + name for name in (b"passwd", b"group", b"shadow", b"gshadow", b"subuid", b"subgid"))
NEVER_TOUCHED: Reasons = {
    **_give_reason("is merged account by account", *_ACCOUNT_FILES, *(path + b"-" for path in _ACCOUNT_FILES)),
    **_give_reason("locks the accounts while they change", b"/etc/.pwd.lock"),
    **_give_reason("is the package manager's own record", b"/var/lib/dpkg", b"/var/lib/apt", b"/var/cache/apt"),
    **_give_reason("is made while the machine runs", b"/proc", b"/sys", b"/dev", b"/run"),
}


class KeepRules:
    """The rules of one restore. `named`: the paths that a limit names; `own`: the folders with the state of tklb."""

    def __init__(self, role: Role, named: Iterable[bytes] = (), own: Iterable[bytes] = ()) -> None:
        overwritten = [Rule(False, path, is_literal=True) for path in named]
        kept = {**KEPT, **(KEPT_BY_CLONES if role is Role.CLONE else {})}
        reasons = _give_reason("is tklb's own state or target on this machine", *own)
        ours = Rules(Rule(True, path, is_literal=True) for path in reasons)
        never = ((reasons, ours), (NEVER_TOUCHED, _make_rules(NEVER_TOUCHED)))
        self._written = (*never, (kept, _make_rules(kept).add_overrides(overwritten)))
        self._own = _make_rules(NEVER_UNKNOWN)
        self._deleted = (*self._written, (NEVER_DELETED, _make_rules(NEVER_DELETED).add_overrides(overwritten)))

    def find_rule(self, path: bytes, *, deletion: bool = False) -> KeepRule | None:
        """Give the rule that keeps `path` as it is here, or None if the version of the snapshot wins."""
        for reasons, rules in self._deleted if deletion else self._written:
            decision = rules.decide(path)
            if decision.included and decision.rule:
                return KeepRule(decision.rule.pattern, reasons[decision.rule.pattern])
        return None

    def is_own(self, path: bytes) -> bool:
        """Whether `path` belongs to this machine though no snapshot knows it: it is neither unknown nor removed."""
        return self._own.decide(path).included or self.find_rule(path, deletion=True) is not None

    def may_keep_below(self, path: bytes) -> bool:
        """Whether a rule may keep something at `path` or below it from being deleted."""
        return any(rules.may_hold(path) for _, rules in self._deleted)


def _make_rules(reasons: Reasons) -> Rules:
    return Rules(Rule(True, pattern) for pattern in reasons)

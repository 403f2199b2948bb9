"""Bring dpkg to an end that was interrupted, as by a kill or a power loss in the middle of a restore.

Takes the root of a file system; changes packages in the states that `dpkg --audit` lists. It configures what waits,
lets apt fix dependencies, and installs again what dpkg wants reinstalled. No package is removed but one that was never
installed here before and whose archive is gone: apt refuses all work while dpkg wants that reinstalled.
"""

import logging
import re
from collections.abc import Collection

from tklb.errors import ProgramFailed, ProgramMissing
from tklb.host import dpkg
from tklb.host.apt.command import LOCK_SECONDS, OPTIONS, has_open_journal, run_apt, try_command, update
from tklb.host.apt.locks import Report, wait_for_locks
from tklb.host.apt.offers import list_offers
from tklb.host.services import deny_service_starts, has_left_policy
from tklb.model.packages import PackageOffer
from tklb.model.report import Skipped

_NOT_CONFIGURED = re.compile(r"(?m)^dpkg: error processing package ([^\s:]+)(?::\S+)? \(--configure\):\n (.+)$")
_INSTALL = ["apt-get", "-qy", "--no-remove", "--no-install-recommends", *OPTIONS]

log = logging.getLogger(__name__)


def find_faults(root: bytes = b"/") -> tuple[str, ...]:
    """Say what an interrupted run left behind; nothing where dpkg and its services are as they should be."""
    names = dpkg.list_unfinished(root)
    return (
        *((f"not fully installed: {' '.join(names)}",) if names else ()),
        *(("dpkg was interrupted",) if has_open_journal(root) else ()),
        *(("a policy-rc.d of tklb keeps services from starting",) if has_left_policy(root) else ()),
    )


def finish_installation(root: bytes = b"/", report: Report = lambda _text: None) -> tuple[Skipped, ...]:
    """Finish what was interrupted, and give back the policy of this machine. No service starts.

    Gives the packages that are still not fully installed, with the reason. Raises PackagesFailed where another program
    does not let go of dpkg.
    """
    wait_for_locks(root, LOCK_SECONDS, report)
    with deny_service_starts(root):
        reasons = configure(root)
        if dpkg.list_unfinished(root):
            _fix(root)
            reasons = configure(root)
    return name_unfinished(root, reasons)


def name_unfinished(root: bytes, reasons: dict[str, str]) -> tuple[Skipped, ...]:
    """Name the packages that are not fully installed; `reasons` by name."""
    return tuple(
        Skipped(f"package:{name}".encode(), f"it is not fully installed{reasons.get(name, '')}")
        for name in dpkg.list_unfinished(root)
    )


def configure(root: bytes) -> dict[str, str]:
    """Let dpkg configure all that waits; give the reasons by name for the packages that it cannot configure."""
    argv = ["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"]
    try:
        said = run_apt(root, argv, accept=range(256)).stderr.decode("utf-8", "backslashreplace")
    except ProgramMissing:
        raise
    except ProgramFailed as exc:
        return dict.fromkeys(dpkg.list_unfinished(root), f": {exc}")
    return {name: f": {reason}" for name, reason in _NOT_CONFIGURED.findall(said)}


def _fix(root: bytes) -> None:
    """Let apt fix dependencies, and install again what dpkg wants reinstalled."""
    try_command(root, [*_INSTALL, "-f", "install"], None)
    if not (broken := dpkg.list_broken(root)):
        return
    update(root)
    offers = list_offers(root, broken)
    _remove_new(root, {label for label in broken if not offers.get(label, PackageOffer()).versions})
    for label in dpkg.list_broken(root):
        if reason := try_command(root, [*_INSTALL, "--reinstall", "install", "--", label], None):
            log.info("%s is not installed again: %s", label, reason)
    _remove_new(root, {*broken})


def _remove_new(root: bytes, labels: Collection[str]) -> None:
    """Remove packages that were never installed whole. A plan that needs them orders them again."""
    for label in dpkg.list_broken(root, only_new=True):
        if label in labels:
            reason = try_command(root, ["dpkg", "--remove", "--force-remove-reinstreq", "--", label], None)
            log.info("removed %s, which was never installed whole: %s", label, reason or "done")

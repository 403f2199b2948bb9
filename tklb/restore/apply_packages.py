"""Carry out the steps of a plan for sources and packages, in the order that apt needs.

Takes steps; changes this machine; gives what was skipped. The files that sources lean on come first: keyrings, mirror
lists, proxies, private CAs. Then come the packages without which apt cannot read a source, from the sources that this
machine has already; then the sources.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from tklb.base.process import run
from tklb.diff.apt_sources import is_authority, is_source
from tklb.errors import PackagesFailed, ProgramFailed, ProgramMissing
from tklb.host.apt import command as apt
from tklb.host.apt.install import Installation, install
from tklb.host.apt.source_files import add_sources, find_fault
from tklb.host.package_relations import read_relations
from tklb.model.packages import PackageRelations
from tklb.model.plan import Step
from tklb.model.report import Skipped
from tklb.restore.plan.packages.package_plan import find_replacement

_FOR_APT = re.compile(r"ca-certificates|apt-transport-.*|gpgv|gnupg")


def carry_out_sources(steps: Sequence[Step], coming: Sequence[Step], root: bytes) -> tuple[Skipped, ...]:
    """Add sources and the files that they lean on. `coming` are the packages that the plan installs later."""
    files = [step.source for step in steps if step.source]
    lists = [file for file in files if is_source(file.path)]
    skipped = add_sources(root, [file for file in files if not is_source(file.path)])
    early = [step.order for step in coming if step.order and _FOR_APT.fullmatch(step.order.label)]
    if lists and early:
        apt.update(root)
        install(early, root)  # a failure is named when all packages come
    if any(is_authority(file.path) for file in files):
        skipped += _trust_authorities(root)
    return (*skipped, *add_sources(root, lists))


def carry_out_installs(steps: Sequence[Step], root: bytes, *, again: bool = False) -> Installation:
    """Refresh the lists, and install all packages in one transaction if that is possible."""
    warnings = apt.update(root)
    done = install([step.order for step in steps if step.order], root, again=again)
    return Installation(done.skipped, (*warnings, *done.warnings))


def carry_out_removals(
    names: Sequence[str], failed: Collection[str], there: Mapping[str, PackageRelations] | None, root: bytes
) -> tuple[Skipped, ...]:
    """Remove packages, but not those whose replacement is among the `failed` ones."""
    here = read_relations(root)
    kept = {name: other for name in names if (other := find_replacement(name, failed, here, there))}
    skipped = (Skipped(f"package:{name}".encode(), f"it stays: {other} did not come") for name, other in kept.items())
    try:
        return (*skipped, *apt.remove([name for name in names if name not in kept], root))
    except PackagesFailed as exc:
        left = (name for name in names if name not in kept)
        return (*skipped, *(Skipped(f"package:{name}".encode(), f"not removed: {exc}") for name in left))


def check_apt(steps: Iterable[Step], root: bytes) -> tuple[Skipped, ...]:
    """Say if apt does not work with the settings that the files brought."""
    is_touched = any(step.entry and step.item.startswith(b"/etc/apt/") for step in steps)
    reason = find_fault(root) if is_touched else ""
    return (Skipped(b"/etc/apt", f"apt does not work with the restored settings: {reason}"),) if reason else ()


def _trust_authorities(root: bytes) -> tuple[Skipped, ...]:
    """Let programs trust the private CAs that came. Without ca-certificates there is nothing to refresh."""
    inside: list[str | bytes] = [] if root == b"/" else ["chroot", root]
    try:
        run([*inside, "update-ca-certificates"], timeout=apt.LOCK_SECONDS, accept=(0, 127))
    except ProgramMissing:
        return ()
    except ProgramFailed as exc:
        return (Skipped(b"update-ca-certificates", str(exc)),)
    return ()

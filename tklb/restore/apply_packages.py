"""Carry out the steps of a plan for sources and packages, in the order that apt needs.

Takes steps; changes this machine; gives what was skipped. The files that sources lean on come first: keyrings, mirror
lists, proxies, private CAs. Then come the packages without which apt cannot read a source, from the sources that this
machine has already; then the sources.
"""

import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tklb.base.process import run
from tklb.diff.apt_sources import is_authority, is_source
from tklb.errors import PackagesFailed, ProgramFailed, ProgramMissing
from tklb.host.apt import command as apt
from tklb.host.apt.conffile_versions import list_leftovers, name_of_kept
from tklb.host.apt.install import Installation, install
from tklb.host.apt.proxies import avoid_dead_proxies
from tklb.host.apt.rebuilt_packages import RestoredFiles, build_package, list_gone, list_places
from tklb.host.apt.source_files import add_sources, find_fault
from tklb.host.files.openat import RootedTree
from tklb.host.files.staged_content import StagedContents
from tklb.host.package_relations import find_needs_of, read_needs, read_relations
from tklb.lazy_dataclass import dataclass
from tklb.model.files import FileEntry
from tklb.model.packages import LocalPackage, Package, PackageOrder, PackageRelations
from tklb.model.plan import Step
from tklb.model.report import Skipped
from tklb.model.snapshot_metadata import SnapshotMetadata
from tklb.restore.plan.packages.package_plan import find_replacement

_FOR_APT = re.compile(r"ca-certificates|apt-transport-.*|gpgv|gnupg")


@dataclass(frozen=True, slots=True)
class PackageInputs:
    """What installations need beside their steps.

    The decoded files of a snapshot: its entries, and the folders with the contents; the proxies that apt used here
    before the restore; and what list_leftovers() gave then.
    """

    manifest: Callable[[], Iterator[FileEntry]]
    folders: Sequence[Path]
    proxies: Mapping[str, str]
    leftovers: frozenset[bytes]
    early: Sequence[Step] = ()  # the files that came before the packages


def carry_out_sources(
    steps: Sequence[Step], coming: Sequence[Step], proxies: Mapping[str, str], root: bytes
) -> tuple[Skipped, ...]:
    """Add sources and the files that they lean on. `coming` are the packages that the plan installs later."""
    files = [step.source for step in steps if step.source]
    lists = [file for file in files if is_source(file.path)]
    skipped = add_sources(root, [file for file in files if not is_source(file.path)])
    early = [step.order for step in coming if step.order and _FOR_APT.fullmatch(step.order.label)]
    if lists and early:
        with avoid_dead_proxies(root, proxies) as choice:
            apt.update(root, options=choice.options)
            install(early, root, options=choice.options)  # a failure is named when all packages come
    if any(is_authority(file.path) for file in files):
        skipped += _trust_authorities(root)
    return (*skipped, *add_sources(root, lists))


def carry_out_installs(
    steps: Sequence[Step], inputs: PackageInputs, root: bytes, *, again: bool = False
) -> Installation:
    """Refresh the lists, and install all packages in one transaction if that is possible."""
    orders = [step.order for step in steps if step.order]
    with (
        TemporaryDirectory(prefix="packages-", dir=inputs.folders[0].parent) as folder,
        avoid_dead_proxies(root, inputs.proxies) as choice,
    ):
        warnings = (*choice.warnings, *apt.update(root, options=choice.options))
        built, reasons = _build_packages(orders, inputs, Path(folder))
        done = install(built, root, again=again, options=choice.options)
    absent = {item.item for item in done.skipped}
    came = (order.local for order in orders if order.local and b"package:" + order.label.encode() not in absent)
    _delete_gone(came, root)
    delete_leftovers(inputs, root)
    skipped = (replace(item, reason=reasons.get(item.item, item.reason)) for item in done.skipped)
    return Installation(tuple(skipped), (*warnings, *done.warnings))


def _build_packages(
    orders: Sequence[PackageOrder], inputs: PackageInputs, folder: Path
) -> tuple[list[PackageOrder], Mapping[bytes, str]]:
    """Build the packages that no source offers. Give all orders, and the reasons of failures by item."""
    places = list_places(order.local for order in orders if order.local)
    if not places:
        return list(orders), {}
    entries = {entry.path: entry for entry in inputs.manifest() if entry.path in places}
    built, reasons = [], {}
    with closing(StagedContents([os.fsencode(path) for path in inputs.folders])) as contents:
        files = RestoredFiles(entries.get, contents)
        for order in orders:
            archive = folder / f"{order.label.replace(':', '_')}.deb"
            reason = _try_build(order.local, files, archive) if order.local else ""
            built.append(replace(order, archive=str(archive)) if order.local and not reason else order)
            if reason:
                reasons[b"package:" + order.label.encode()] = f"it could not be built again: {reason}"
    return built, reasons


def _try_build(package: LocalPackage, files: RestoredFiles, archive: Path) -> str:
    try:
        build_package(package, files, archive)
    except (OSError, ValueError) as exc:
        archive.unlink(missing_ok=True)
        return getattr(exc, "strerror", None) or str(exc)
    return ""


def _delete_gone(packages: Iterable[LocalPackage], root: bytes) -> None:
    """Delete the empty files that stand for those which the owner of the other machine had deleted."""
    for path in (path for package in packages for path in list_gone(package)):
        _delete_file(root, path, most_bytes=0)


def delete_leftovers(inputs: PackageInputs, root: bytes) -> None:
    """Delete the versions of packages that dpkg and ucf put beside files of the backed-up machine.

    Such a file came before its package, so its package did not replace it. It is the owner's, and wins.
    """
    names = {name_of_kept(path): path for path in list_leftovers(root) - inputs.leftovers}
    early = {step.item for step in inputs.early}
    entries = (entry.path for entry in inputs.manifest()) if names.keys() - early else ()
    for path in (names[name] for name in {*early, *entries} & names.keys()):
        _delete_file(root, path)


def _delete_file(root: bytes, path: bytes, most_bytes: int | None = None) -> None:
    with RootedTree(root) as tree, suppress(OSError, ValueError):
        folder, name = tree.place(path)
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode) and (most_bytes is None or status.st_size <= most_bytes):
            os.unlink(name, dir_fd=folder)


def carry_out_marks(
    packages: Iterable[Package], failed: Collection[str], contents: SnapshotMetadata, root: bytes
) -> tuple[Skipped, ...]:
    """Mark packages. What a package needs that dpkg does not know here is manual, or apt would remove it."""
    lacking = {one.label: read_needs(one.control) for one in contents.local_packages if one.label in failed}
    needed = find_needs_of(lacking, {**read_relations(root), **lacking}) if lacking else frozenset()
    return apt.mark([(one.name, one.auto and one.name not in needed, one.held) for one in packages], root)


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

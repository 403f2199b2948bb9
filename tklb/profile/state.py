"""The install state of this machine: that of the profile, adapted to the packages that are installed now.

Takes a profile, a root file system and its packages; gives sorted entries; reads only. A packaged file that nobody
edited is install state, also if its package is newer than the profile.
"""

import os
from collections.abc import Callable, Iterable, Iterator

from tklb.diff.packages import label, native_architecture
from tklb.diff.rules import Rules, split_path
from tklb.errors import ProfileInvalid, printable
from tklb.host.registries.pam_profiles import list_pam_state
from tklb.host.registries.switches import list_markers
from tklb.model.files import FileEntry
from tklb.model.packages import Package
from tklb.profile import builtin
from tklb.profile.derive import derive_install_state
from tklb.profile.folder import Profile
from tklb.profile.generated import list_made_at_start

_CHOSEN = b"/etc/alternatives/"  # in automatic mode these follow the installed packages


def read_install_state(
    profile: Profile,
    root: bytes,
    packages: tuple[Package, ...],
    local: frozenset[str] = frozenset(),
    rules: Rules | None = None,
    system: tuple[bytes, ...] = (),
    made: Iterable[FileEntry] = (),
) -> Iterator[FileEntry]:
    """Give the entries of this machine as if nobody had changed it. Sorted.

    `packages` are those installed, `local` the labels among them that no source offers: their files are no install
    state. `rules` are those of the run, if they differ from the profile's, and `system` the paths of packages that only
    they include. `made` are entries that scripts made when a restore installed their packages. For paths that the
    profile does not include, the install state is that of the package manager. Raises ProfileInvalid.
    """
    recorded = {_identity(package) for package in profile.recorded_packages()}
    native = native_architecture(packages)
    offered = tuple(package for package in packages if label(package, native) not in local)
    fresh = tuple(package for package in offered if _identity(package) not in recorded)
    changed = {name for name, _, _ in recorded.symmetric_difference(map(_identity, packages))}
    known = {} if not changed else _derive_entries(root, fresh, profile.recipe.include, profile.rules)
    known = {entry.path: entry for entry in made if _exists(root, entry.path)} | known
    known |= {
        path: FileEntry(path, "dir", 0o755, 0, 0, b"root", b"root")
        for path in builtin.OUR_FOLDERS
        if _exists(root, path)
    }
    known |= {entry.path: entry for entry in _list_registry_files(root)}
    known |= _derive_beyond(root, profile, rules or profile.rules, offered)
    recorded_system = profile.recorded_system_paths()
    recent = frozenset(system) if changed else frozenset(system) - recorded_system
    known |= _derive_system_paths(root, recent, offered)
    entries = _merge(root, profile, known, changed) if changed or known else _read_recorded(profile)
    beyond = recorded_system - frozenset(system)
    return (entry for entry in entries if entry.path not in beyond)


def _list_registry_files(root: bytes) -> Iterator[FileEntry]:
    """Give what scripts and services write whatever profile was recorded before that."""
    yield from list_markers(root)
    yield from list_pam_state(root)
    yield from list_made_at_start(root)


def _read_recorded(profile: Profile) -> Iterator[FileEntry]:
    last = b""
    for entry in profile.entries():
        if entry.path <= last:
            raise ProfileInvalid(profile=profile.id, reason=f"files.mtree: {printable(entry.path)} is out of order")
        last = entry.path
        yield entry


def _identity(package: Package) -> tuple[str, str, str]:
    return package.name, package.version, package.architecture


def _derive_entries(
    root: bytes, packages: Iterable[Package], below: Iterable[bytes], rules: Rules
) -> dict[bytes, FileEntry]:
    found = derive_install_state(root, packages, map(plain_part, below), _make_filter(rules))
    return {entry.path: entry for entry in found}


def _derive_beyond(
    root: bytes, profile: Profile, rules: Rules, packages: tuple[Package, ...]
) -> dict[bytes, FileEntry]:
    """Give the entries of packages at paths that a built-in rule or an override includes, and the profile does not."""
    own = profile.recorded_rules
    beyond = (rule.pattern for rule in rules.rules if rule.include and (rule.is_override or rule in builtin.INCLUDES))
    below = [path for path in beyond if _is_beyond(own, path) and _exists(root, plain_part(path))]
    if not below:
        return {}
    found = _derive_entries(root, packages, below, rules)
    return {path: entry for path, entry in found.items() if not own.decide(path).included}


def _is_beyond(own: Rules, path: bytes) -> bool:
    """Whether the profile does not record all at and below `path`."""
    folder = own.find_folder(plain_part(path))
    return not (folder.decision.included and plain_part(path) == path)


def _derive_system_paths(root: bytes, paths: frozenset[bytes], packages: tuple[Package, ...]) -> dict[bytes, FileEntry]:
    """Give the entries of packages at single paths in /usr."""
    found = derive_install_state(root, packages, paths, lambda path: path in paths) if paths else ()
    return {entry.path: entry for entry in found}


def _make_filter(rules: Rules) -> Callable[[bytes], bool]:
    return lambda path: rules.decide(path).included


def plain_part(pattern: bytes) -> bytes:
    """Give the leading components of a pattern that have no glob signs."""
    plain = []
    for part in split_path(pattern):
        if any(sign in part for sign in (b"*", b"?", b"[", b"\\")):
            break
        plain.append(part)
    return b"/" + b"/".join(plain)


def _merge(root: bytes, profile: Profile, known: dict[bytes, FileEntry], changed: set[str]) -> Iterator[FileEntry]:
    """Merge both in one order. A recorded path that is gone is left out if its package was removed or changed."""
    owners = profile.owners() if changed else {}
    waiting = iter(sorted(known))
    upcoming = next(waiting, None)
    for entry in _read_recorded(profile):
        while upcoming is not None and upcoming < entry.path:
            yield known[upcoming]
            upcoming = next(waiting, None)
        newer = known[entry.path] if upcoming == entry.path else None
        if newer is not None:
            upcoming = next(waiting, None)
        packages = owners.get(entry.path, frozenset())
        is_chosen = bool(changed) and entry.path.startswith(_CHOSEN)
        if newer is not None and (packages & changed or is_chosen):
            yield _replace_content(entry, newer)
        elif not (is_chosen or (packages and packages <= changed)) or _exists(root, entry.path):
            yield entry
    while upcoming is not None:
        yield known[upcoming]
        upcoming = next(waiting, None)


def _exists(root: bytes, path: bytes) -> bool:
    return os.path.lexists(os.path.join(root, path.lstrip(b"/")))


def _replace_content(recorded: FileEntry, newer: FileEntry) -> FileEntry:
    """Take the content of the package manager, which is newer, and the other metadata of the profile."""
    if recorded.kind != newer.kind:
        return newer
    return newer._replace(
        **{name: getattr(recorded, name) for name in ("mode", "uid", "gid", "uname", "gname", "xattrs")}
    )

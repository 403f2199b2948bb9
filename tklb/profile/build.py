"""Build a profile from a clean root file system.

Takes a root and a recipe; writes the folder of the profile. The same content gives the same bytes: no times, no inode
numbers, everything sorted. A root that somebody has used is refused, with the signs of use.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tklb.base.fs import read_existing, write_atomic
from tklb.diff import mtree
from tklb.diff.packages import format_packages
from tklb.diff.rules import Rules
from tklb.errors import ProfileInvalid
from tklb.host import dpkg
from tklb.host.files.digest import file_digest
from tklb.host.files.scan import scan
from tklb.host.owned_paths import read_owned_paths
from tklb.host.release import read_os_release
from tklb.host.system_files import find_system_files
from tklb.model.files import FileEntry
from tklb.model.report import Skipped, SkippedItems
from tklb.profile.folder import Profile, add_tags, load_profile
from tklb.profile.generated import read_ucf_owners
from tklb.profile.recipe import Recipe, parse_recipe
from tklb.profile.system_paths import is_covered, list_exact_rules

_KEYWORDS = frozenset(
    {"mode", "uid", "gid", "uname", "gname", "size", "link", "device", "sha256digest", "xattr"}
)  # fmt: skip
_DEFAULTS = b"/set uid=0 gid=0 uname=root gname=root\n"
_MADE_LATER = (  # every machine makes its own: none of these may be in a profile
    "etc/ssh/ssh_host_*_key", "etc/ssl/private/ssl-cert-snakeoil.key", "usr/sbin/policy-rc.d", "root/.bash_history",
    "root/.ssh/authorized_keys", "home/*", "etc/hostname", "etc/fstab",
)  # fmt: skip
_MOST_OWNERS = 4  # a folder of more packages than this stays when some of them go
_SHOWN = 5  # signs of use in the message


def build_profile(root: bytes, recipe: Path, out: Path | None = None) -> Profile:
    """Write the profile of `root` into `out` (None: a folder with its id as name). Raises ProfileInvalid."""
    text = recipe.read_bytes()
    try:
        parsed = parse_recipe(text)
    except ValueError as exc:
        raise ProfileInvalid(profile=recipe, reason=exc) from exc
    signs = tuple(_find_signs_of_use(root, parsed, text))
    if signs:
        more = f" and {len(signs) - _SHOWN} more" if len(signs) > _SHOWN else ""
        raise ProfileInvalid(profile=parsed.id, reason=f"the root is not clean: {'; '.join(signs[:_SHOWN])}{more}")
    folder = out if out is not None else Path(parsed.id)
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "profile.toml": text,
        "packages": format_packages(dpkg.list_installed(root)),
        "passwd": _read_content(root, b"etc/passwd"),
        "group": _read_content(root, b"etc/group"),
    }
    for name, content in contents.items():
        write_atomic(folder / name, content, 0o644)
    write_atomic(folder / "files.mtree", mtree.HEADER + _DEFAULTS, 0o644)
    profile = load_profile(folder)
    write_atomic(folder / "files.mtree", b"".join(_format_files(root, profile)), 0o644)
    return load_profile(folder)


def _format_files(root: bytes, profile: Profile) -> Iterator[bytes]:
    skipped = SkippedItems()
    entries = list(scan(root, _add_system_paths(root, profile.rules), skipped=skipped, digest=True))
    nameless = [Skipped(entry.path, "no name owns it") for entry in entries if None in (entry.uname, entry.gname)]
    for item in (*skipped, *nameless):
        raise ProfileInvalid(profile=profile.id, reason=f"{os.fsdecode(item.item)}: {item.reason}")
    owners = _find_owners(root, entries)
    yield mtree.HEADER
    yield _DEFAULTS
    for entry in entries:
        bare = entry._replace(xattrs=entry.xattrs or None, mode=None if entry.kind == "link" else entry.mode)
        if entry.uid == 0 and entry.uname == b"root":
            bare = bare._replace(uid=None, uname=None)
        if entry.gid == 0 and entry.gname == b"root":
            bare = bare._replace(gid=None, gname=None)
        yield add_tags(mtree.format_entry(bare, _KEYWORDS), owners.get(entry.path, ()))


def _add_system_paths(root: bytes, rules: Rules) -> Rules:
    """Give the rules, with those for packaged paths in /usr whose mode, owner or capabilities are unusual."""
    special = find_system_files(root, read_owned_paths(root)).special
    return Rules((*rules.rules, *list_exact_rules(path for path in special if not is_covered(rules, path))))


def _find_owners(root: bytes, entries: list[FileEntry]) -> dict[bytes, set[str]]:
    """Give the packages of each entry: those that ship or make it or the target of a link, or all in a folder."""
    found = {path: set(names) for path, names in dpkg.list_shipped_by(root).items()}
    for path, name in read_ucf_owners(root).items():
        found.setdefault(path, {name})
    children: dict[bytes, list[bytes]] = {}
    for entry in reversed(entries):
        children.setdefault(os.path.dirname(entry.path), []).append(entry.path)
        if entry.path in found:
            continue
        if entry.link is not None:
            target = os.path.normpath(os.path.join(os.path.dirname(entry.path), entry.link))
            owners = found.get(target) or found.get(b"/usr" + target, set())
        elif entry.path.startswith(b"/etc/ssl/certs/"):
            owners = {"ca-certificates"}
        else:
            named = [found.get(path, set()) for path in children.get(entry.path, ())]
            owners = set().union(*named) if all(named) else set()
        found[entry.path] = owners
    return {path: names for path, names in found.items() if len(names) <= _MOST_OWNERS}


def _find_signs_of_use(root: bytes, recipe: Recipe, text: bytes) -> Iterator[str]:
    present = {package.name for package in dpkg.list_installed(root)}
    if not present:
        yield "it is no Debian root file system"
        return
    if recipe.release and read_os_release(root) != recipe.release:
        yield f"it is {read_os_release(root) or 'of no known release'}, not {recipe.release}"
    yield from (f"package {name} is not installed" for name in recipe.packages if name not in present)
    yield from (f"package {name} is not fully installed" for name in dpkg.list_unfinished(root))
    for pattern in _MADE_LATER:
        yield from (f"/{found} is there" for found in _find_present(root, pattern))
    if _read_content(root, b"etc/machine-id").strip():
        yield "/etc/machine-id is set"
    for line in _read_content(root, b"etc/passwd").splitlines():
        fields = line.split(b":")
        if len(fields) == 7 and fields[2].isdigit() and 1000 <= int(fields[2]) < 60000:
            yield f"there is a user {os.fsdecode(fields[0])}"
    for entry in dpkg.package_files(root, below=(b"/etc",)):
        if entry.md5 and entry.path not in text and _is_edited(root, entry):
            yield f"{os.fsdecode(entry.path)} was edited"


def _find_present(root: bytes, pattern: str) -> Iterator[PurePosixPath]:
    top = Path(os.fsdecode(root))
    yield from (PurePosixPath(found.relative_to(top)) for found in sorted(top.glob(pattern)))


def _is_edited(root: bytes, entry: FileEntry) -> bool:
    try:
        return file_digest(os.path.join(root, entry.path.lstrip(b"/")), "md5") != entry.md5
    except OSError:
        return True


def _read_content(root: bytes, path: bytes) -> bytes:
    return read_existing(os.path.join(root, path))

"""A profile as a folder: profile.toml, files.mtree, packages, passwd, group. Load, find, check.

Takes folders; gives Profile values; reads only. The folder may come from a stranger, so every file has a size limit and
must be a regular file. files.mtree is streamed; `tags=deb:NAME` in it is the package of an entry.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tklb.base.fs import read_existing
from tklb.diff import mtree
from tklb.diff.packages import parse_packages
from tklb.diff.rules import Rule, Rules
from tklb.errors import ProfileInvalid
from tklb.lazy_dataclass import dataclass
from tklb.model.accounts import Accounts
from tklb.model.files import FileEntry
from tklb.model.packages import Package
from tklb.profile import builtin
from tklb.profile.recipe import LIMIT, Recipe, parse_recipe
from tklb.profile.system_paths import is_covered, is_system_path

LIMITS: Mapping[str, int] = {
    "profile.toml": LIMIT,
    "files.mtree": 1 << 28,
    "packages": 1 << 23,
    "passwd": 1 << 22,
    "group": 1 << 22,
}
LAST_RESORT = "debian"
_OWNED = re.compile(rb"^(\S+) .* tags=(\S*)$", re.MULTILINE)
_OWNER = b"deb:"
_PATH = re.compile(rb"^\.(/\S+) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Profile:
    """The install state of a type of machine. `digest`: SHA-256 over all files of the folder."""

    recipe: Recipe
    folder: Path
    digest: str

    @property
    def id(self) -> str:
        return self.recipe.id

    @property
    def summary(self) -> str:
        return self.recipe.summary

    @property
    def release(self) -> str:
        return self.recipe.release

    @property
    def services(self) -> tuple[str, ...]:
        return self.recipe.services

    @property
    def rules(self) -> Rules:
        """The rules of the profile and the built-in ones."""
        return Rules((*self.recipe.rules, *builtin.RULES))

    @property
    def recorded_rules(self) -> Rules:
        """The rules without the built-in inclusions: the folders whose install state the profile itself records."""
        return Rules((*self.recipe.rules, *(rule for rule in builtin.RULES if not rule.include)))

    def rules_with(self, paths: Iterable[bytes], left_out: Iterable[bytes] = ()) -> Rules:
        """Give the rules, a rule that includes each of `paths`, and one that leaves out each of `left_out`."""
        added = [Rule(True, path, is_literal=True) for path in paths]
        return Rules((*self.rules.rules, *added, *(Rule(False, path, is_literal=True) for path in left_out)))

    def recorded_packages(self) -> tuple[Package, ...]:
        """Read the packages whose files are in files.mtree. Raises ProfileInvalid."""
        try:
            return parse_packages(_read_file(self.folder, "packages"))
        except ValueError as exc:
            raise ProfileInvalid(profile=self.id, reason=f"packages: {exc}") from exc

    def packages(self, root: bytes = b"/") -> tuple[Package, ...]:
        """Give the packages of the install state. If it is derived: those of every Debian, with their dependencies."""
        if not self.recipe.derived:
            return self.recorded_packages()
        from tklb.host.dpkg import list_base_packages  # many modules, and most commands ask for no packages

        return list_base_packages(root)

    def accounts(self, root: bytes = b"/") -> Accounts:
        """Give the accounts of the install state. If it is derived: the first accounts of every Debian."""
        if self.recipe.derived:
            masters = os.path.join(root, b"usr/share/base-passwd")
            return Accounts(_read_shadowed(masters, "passwd.master"), _read_shadowed(masters, "group.master"))
        return Accounts(_read_lines(self.folder, "passwd"), _read_lines(self.folder, "group"))

    def entries(self) -> Iterator[FileEntry]:
        """Stream files.mtree, sorted. An entry without extended attributes in it has none. Raises ProfileInvalid."""
        try:
            with open(self.folder / "files.mtree", "rb") as stream:
                for entry in mtree.parse(stream):
                    yield entry if entry.xattrs is not None else entry._replace(xattrs=())
        except ValueError as exc:
            raise ProfileInvalid(profile=self.id, reason=f"files.mtree: {exc}") from exc

    def recorded_system_paths(self) -> frozenset[bytes]:
        """Give the recorded paths that are in /usr and not in the scope of the profile: see system_paths."""
        rules = self.rules
        found = map(mtree.unescape, _PATH.findall(_read_file(self.folder, "files.mtree")))
        return frozenset(path for path in found if is_system_path(path) and not is_covered(rules, path))

    def owners(self) -> dict[bytes, frozenset[str]]:
        """Give the packages of each path, if they are known."""
        text = _read_file(self.folder, "files.mtree")
        return {
            mtree.unescape(name[1:]): frozenset(
                tag.removeprefix(_OWNER).decode("ascii", "replace")
                for tag in tags.split(b",")
                if tag.startswith(_OWNER)
            )
            for name, tags in _OWNED.findall(text)
        }


def add_tags(line: bytes, owners: Iterable[str]) -> bytes:
    """Add the packages of an entry to its record, as a keyword that mtree(8) knows."""
    tags = b",".join(_OWNER + name.encode() for name in sorted(owners))
    return line[:-1] + b" tags=" + tags + b"\n" if tags else line


def load_profile(folder: Path) -> Profile:
    """Read a profile. Its listing is read later, on demand. Raises ProfileInvalid."""
    digest = hashlib.sha256()
    for name in LIMITS:
        content = _read_file(folder, name)
        digest.update(f"{name} {len(content)}\n".encode() + content)
    try:
        recipe = parse_recipe(_read_file(folder, "profile.toml"))
    except ValueError as exc:
        raise ProfileInvalid(profile=folder, reason=f"profile.toml: {exc}") from exc
    return Profile(recipe, folder, digest.hexdigest())


def list_shipped(folder: Path | None = None) -> tuple[Profile, ...]:
    """List the profiles in `folder` (None: those that came with tklb). Sorted by id. Raises ProfileInvalid."""
    places = [folder] if folder is not None else list(_shipping_places())
    found = [item.parent for place in places for item in sorted(place.glob("*/profile.toml"))]
    return tuple(sorted((load_profile(item) for item in found), key=lambda profile: profile.id))


def _shipping_places() -> Iterator[Path]:
    """Give the folder beside the package in a checkout, and `share` beside its parent in an installation."""
    around = Path(__file__).resolve().parents[2]
    candidates = (around / "profiles", around.parent / "share" / "profiles")
    yield from (place for place in candidates if place.is_dir())


def find_profile(folder: Path | None, name: str) -> Profile:
    """Find a profile by its id, or by the path of its folder. Raises ProfileInvalid."""
    if "/" in name:
        return load_profile(Path(name))
    for profile in list_shipped(folder):
        if profile.id == name:
            return profile
    raise ProfileInvalid(profile=name, reason="there is no profile with this id")


def _read_file(folder: Path, name: str) -> bytes:
    """Read a file of the profile: a regular file, not a link, not too large. Raises ProfileInvalid."""
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as exc:
        raise ProfileInvalid(profile=folder, reason=f"{name}: {exc.strerror}") from exc
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ProfileInvalid(profile=folder, reason=f"{name}: not a regular file")
        content = stream.read(LIMITS[name] + 1)
    if len(content) > LIMITS[name]:
        raise ProfileInvalid(profile=folder, reason=f"{name}: larger than {LIMITS[name]} bytes")
    return content


def _read_lines(folder: Path | bytes, name: str) -> tuple[bytes, ...]:
    if isinstance(folder, Path):
        return tuple(_read_file(folder, name).splitlines())
    return tuple(read_existing(os.path.join(folder, name.encode())).splitlines())


def _read_shadowed(folder: bytes, name: str) -> tuple[bytes, ...]:
    """Read lines with shadowed passwords: the postinst of base-passwd calls shadowconfig(8)."""
    return tuple(line.replace(b":*:", b":x:", 1) for line in _read_lines(folder, name))

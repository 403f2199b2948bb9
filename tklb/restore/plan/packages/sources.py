"""The package sources of a plan: which files of the backed-up machine this one gets, and under which name. Pure.

On the same release, all that worked there works here. On another release, a source that names that release would mix
the two, so it is left out. This machine keeps its own sources: a file of the other machine never replaces one that has
Debian's archive here, or that offers more than it does.

apt refuses all sources if two of them sign one suite of one archive by different keyrings. So a source that comes takes
the keyring that this machine has for the same suite.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping

from tklb.diff.apt_sources import (
    CODENAMES,
    RESTORED,
    SOURCE_FOLDER,
    SOURCES,
    PackageSource,
    Stanza,
    is_source,
    parse_stanzas,
    read_mirror_lists,
    split_disks,
)
from tklb.errors import COMPLETE
from tklb.lazy_dataclass import dataclass
from tklb.model.packages import SourceFile
from tklb.model.report import Skipped

_MOVING = ("oldstable", "stable", "testing")  # of Debian's own archive: another release on another day
_LOGINS, _TRUSTED = b"/etc/apt/auth.conf", b"/etc/apt/trusted.gpg"  # files and folders
_NO_OFFER: frozenset[PackageSource] = frozenset()


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """Files to write: first those that sources lean on, then the sources."""

    add: tuple[SourceFile, ...] = ()
    skipped: tuple[Skipped, ...] = ()


def plan_sources(
    carried: Iterable[SourceFile],
    present: Iterable[SourceFile],
    *,
    there: str,
    here: str,
    wanted: Callable[[bytes], bool] = lambda _path: True,
) -> SourcePlan:
    """Select the carried files that this machine gets, which has the files `present` already.

    `there` and `here` are the releases. `wanted` selects among the files that sources lean on.
    """
    every, found = tuple(carried), tuple(present)
    place = _Placement(found, read_mirror_lists(every))
    lists, skipped = [], []
    for source, disks in (split_disks(file) for file in every if is_source(file.path)):
        if disks:
            reason = f"apt reads no disk of another machine: {' '.join(disks[0].split())}; use apt-cdrom add"
            skipped.append(Skipped(source.path, reason, COMPLETE))
        if disks and not parse_stanzas(source):
            continue
        foreign = [] if there == here else place.find_foreign(source, here)
        if foreign:
            skipped.append(Skipped(source.path, f"it is a package source for another release: {' '.join(foreign)}"))
        elif there_now := place.fit(source):
            lists.append(there_now)
    known = {file.path: file for file in found}
    leaned_on = [
        file
        for file in every
        if not is_source(file.path) and wanted(file.path) and _differs(file, known.get(file.path))
    ]
    return SourcePlan((*leaned_on, *lists), tuple(skipped))


def _differs(file: SourceFile, known: SourceFile | None) -> bool:
    return known is None or (known.content, known.mode) != (file.content, file.mode)


class _Placement:
    """The sources of this machine, and where those of another one fit in."""

    def __init__(self, present: Iterable[SourceFile], lists: Mapping[bytes, str]) -> None:
        files = tuple(present)
        own = read_mirror_lists(files)
        self._lists = {**own, **lists}
        self._files = {file.path: file for file in files if is_source(file.path)}
        self._stanzas = {path: parse_stanzas(file, own) for path, file in self._files.items()}
        self._offered = _NO_OFFER.union(*(one.offers for every in self._stanzas.values() for one in every))

    def find_foreign(self, source: SourceFile, release: str) -> list[str]:
        offers = _NO_OFFER.union(*(one.offers for one in parse_stanzas(source, self._lists)))
        return sorted({offer.suite for offer in offers if not is_for_release(offer, release)})

    def fit(self, source: SourceFile) -> SourceFile | None:
        """Give the file to write, or None if this machine has all that it offers."""
        stanzas = parse_stanzas(source, self._lists)
        offers = _NO_OFFER.union(*(one.offers for one in stanzas))
        here = self._files.get(source.path)
        if here == source or (offers and offers <= self._offered):
            return None
        own = self._stanzas.get(source.path, ())
        stays = any(one.is_debian or not one.offers <= offers for one in own)
        if source.path == SOURCES or (here is not None and stays):
            missing = [one for one in stanzas if not one.offers <= self._offered]
            return _join_stanzas(_rename(source.path), map(self._sign, missing)) if missing else None
        signed = [self._sign(one) for one in stanzas]
        return source if signed == list(stanzas) else _join_stanzas(source.path, signed)

    def _sign(self, stanza: Stanza) -> Stanza:
        """Take the keyring of the stanza here that has a suite of the same archive."""
        for other in (one for every in self._stanzas.values() for one in every):
            is_same = _places_of(stanza) & _places_of(other) and set(stanza.words("suites")) & set(
                other.words("suites")
            )
            if is_same and other.words("signed-by") != stanza.words("signed-by"):
                return stanza.sign_by(other)
        return stanza


def _places_of(stanza: Stanza) -> set[str]:
    return {uri.rstrip("/") for uri in stanza.words("uris")}


def _rename(path: bytes) -> bytes:
    return RESTORED + b".list" if path == SOURCES else RESTORED + b"-" + path.removeprefix(SOURCE_FOLDER)


def _join_stanzas(path: bytes, stanzas: Iterable[Stanza]) -> SourceFile:
    return SourceFile(path, "".join(stanza.text() for stanza in stanzas).encode(), 0o644)


def is_for_release(offer: PackageSource, release: str) -> bool:
    """Whether a suite is for a release: it has the codename of the release, or of none."""
    name = re.split(r"[-/]", offer.suite)[0]
    if offer.place in ("debian", "debian-security") and name in _MOVING:
        return False
    return name not in CODENAMES.values() or name == CODENAMES.get(release)


def find_support(files: Iterable[SourceFile]) -> frozenset[bytes]:
    """Give the paths that only help apt to reach its sources: all but sources, keyrings, preferences and logins."""
    every = tuple(files)
    stanzas = (one for file in every if is_source(file.path) for one in parse_stanzas(file))
    counted = {path for one in stanzas for path in one.keyrings}
    paths = {file.path for file in every if not is_source(file.path)} - counted
    return frozenset(
        path for path in paths if not path.startswith(b"/etc/apt/") or path.startswith(b"/etc/apt/apt.conf")
    )


def find_unknown_sources(
    carried: Iterable[SourceFile], present: Iterable[SourceFile], release: str
) -> tuple[tuple[bytes, ...], bool]:
    """Give the paths of source files here with an archive that the snapshot does not know, and whether others stay.

    This machine's own sources stay: Debian's archive of its release, or a mirror of it.
    """
    there, here = tuple(carried), tuple(present)
    lists = {**read_mirror_lists(here), **read_mirror_lists(there)}
    known = _NO_OFFER.union(*(one.offers for file in there for one in _parse(file, lists)))
    paths = {file.path for file in there}
    unknown, stays = [], False
    for file in (file for file in here if is_source(file.path)):
        stanzas = _parse(file, lists)
        is_known = all(one.is_mirror_for(release) or one.offers <= known for one in stanzas)
        if file.path == SOURCES or file.path in paths or is_known:
            stays = stays or bool(stanzas)
        else:
            unknown.append(file.path)
    return tuple(sorted(unknown)), stays


def find_unknown_apt_files(
    carried: Iterable[SourceFile], present: Iterable[SourceFile], own: Iterable[bytes], unknown: Collection[bytes]
) -> tuple[bytes, ...]:
    """Give the keyrings, preferences and logins of the owner here that the snapshot does not know. Sorted.

    `own` are the owner's files that are no sources, `unknown` the sources that are not known. Files that the other
    sources here need belong to this machine: keyrings that they name, or all if they name none, and logins.
    """
    there, here = {file.path for file in carried}, tuple(present)
    lists = read_mirror_lists(here)
    staying = [one for file in here if file.path not in unknown for one in _parse(file, lists)]
    needed = {keyring for one in staying for keyring in one.keyrings}
    others = [one for one in staying if not one.is_debian]
    seen: tuple[bytes, ...] = (b"/etc/apt/apt.conf",)  # the comparison of files sees the settings
    seen += (_LOGINS,) if others else ()
    seen += (_TRUSTED,) if any(not one.words("signed-by") for one in others) else ()
    paths = {path for path in own if path.startswith(b"/etc/apt/") and not path.startswith(seen)}
    return tuple(sorted(paths - there - needed))


def _parse(file: SourceFile, lists: Mapping[bytes, str]) -> tuple[Stanza, ...]:
    return parse_stanzas(file, lists) if is_source(file.path) else ()

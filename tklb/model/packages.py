"""Packages and the files of the package manager that travel with them."""

from collections.abc import Mapping
from typing import NamedTuple

from tklb.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Package:
    name: str
    version: str
    architecture: str
    auto: bool = False
    held: bool = False


@dataclass(frozen=True, slots=True)
class PackageDelta:
    """What the owner did to the package set of the install state. Sorted by name, then architecture."""

    added: tuple[Package, ...] = ()
    removed: tuple[Package, ...] = ()
    upgraded: tuple[tuple[Package, Package], ...] = ()  # (base, now), version differs in either direction
    marked: tuple[tuple[Package, Package], ...] = ()  # (base, now), auto/manual or hold differs, version does not

    @property
    def is_empty(self) -> bool:
        return not (self.added or self.removed or self.upgraded or self.marked)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the package manager's configuration that travels with the packages."""

    path: bytes
    content: bytes
    mode: int
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class PackageRelations:
    """The packages that a package names in its relations, real and virtual ones.

    A conflict with some versions only is left out, because apt ends it by an upgrade.
    """

    provides: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()  # Conflicts and Breaks
    needs: tuple[str, ...] = ()  # Pre-Depends and Depends, with all alternatives
    source: str = ""
    is_essential: bool = False  # dpkg or apt refuse to remove it


class ShippedPath(NamedTuple):
    """A path of a package: as the package ships it, where it is on the machine, and what it is: dir, file or gone."""

    path: bytes
    place: bytes
    kind: str


@dataclass(frozen=True, slots=True)
class LocalPackage:
    """What dpkg knows of a package that no source offers. With its files, it is enough to build the package again."""

    label: str
    architecture: str
    control: bytes  # fields of deb-control(5), without those that only the status file has
    conffiles: tuple[tuple[bytes, str], ...] = ()  # path, MD5 as shipped ("" unknown)
    members: tuple[tuple[str, bytes], ...] = ()  # scripts and lists that dpkg keeps: name, content
    paths: tuple[ShippedPath, ...] = ()


class PackageOffer(NamedTuple):
    """What the package sources of this machine offer of a package."""

    versions: tuple[str, ...] = ()
    candidate: str = ""  # the version that apt would install; "" if none


@dataclass(frozen=True, slots=True)
class PackageHistory:
    """More facts about the packages of a backed-up machine. Names are labels."""

    relations: Mapping[str, PackageRelations] | None = None  # None in old snapshots: they are not known
    needed_by_local: tuple[str, ...] = ()  # came automatically, for packages that no source offers
    newer: tuple[str, ...] = ()  # newer than what apt would choose there, such as those of backports
    absent_holds: tuple[str, ...] = ()  # held there and not installed: they must not come


@dataclass(frozen=True, slots=True)
class PackageOrder:
    """A package that apt is to install on this machine."""

    label: str
    version: str = ""  # on the backed-up machine; "" if it is not known
    held: bool = False  # there, so it comes in that version if a source offers it
    replaces: tuple[str, ...] = ()  # labels of packages here that exclude it and may go for it
    is_optional: bool = False  # came automatically on another release, which may lack it
    local: LocalPackage | None = None  # no source offers it: it is built again
    archive: str = ""  # where the package was built again: the path of the .deb file

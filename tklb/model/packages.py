"""Packages and the files of the package manager that travel with them."""

from dataclasses import dataclass


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

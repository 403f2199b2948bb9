"""The relations of the installed packages: what each provides, needs and excludes.

Takes a root; gives values by label. Reads the database of dpkg, changes nothing.
"""

import re
from collections.abc import Iterable, Mapping

from tklb.diff.packages import label, native_architecture
from tklb.host import dpkg
from tklb.host.dpkg import DpkgRecord
from tklb.model.packages import PackageRelations

_NAME = re.compile(rb"[a-z0-9][a-z0-9+.-]+")


def read_relations(root: bytes = b"/") -> dict[str, PackageRelations]:
    """Give the relations of every installed package by its label."""
    records = tuple(dpkg.read_status(root))
    native = native_architecture(record.package for record in records)
    return {label(record.package, native): _make_relations(record) for record in records}


def find_needs_of(names: Iterable[str], relations: Mapping[str, PackageRelations]) -> frozenset[str]:
    """Give the labels of the installed packages that some packages need directly."""
    needed = {need for name in names if name in relations for need in relations[name].needs}
    return frozenset(
        name for name, one in relations.items() if name.partition(":")[0] in needed or needed.intersection(one.provides)
    )


def read_needs(control: bytes) -> PackageRelations:
    """Give what a package needs by its fields of deb-control(5)."""
    fields = re.findall(rb"(?mi)^(?:pre-)?depends:(.*(?:\n[ \t].*)*)", control)
    return PackageRelations(needs=_parse_names(b",".join(fields)))


def _make_relations(record: DpkgRecord) -> PackageRelations:
    return PackageRelations(
        provides=_parse_names(record.provides),
        conflicts=_parse_names(record.conflicts, is_versioned=False),
        needs=_parse_names(record.relations),
        source=record.source,
        is_essential=record.essential,
    )


def _parse_names(field: bytes, *, is_versioned: bool = True) -> tuple[str, ...]:
    """Give the names of a relation field (deb-control(5)), sorted; on request only those without a version."""
    words = (word.strip() for word in field.replace(b"|", b",").split(b","))
    found = (match[0] for word in words if (match := _NAME.match(word)) and (is_versioned or b"(" not in word))
    return tuple(sorted({name.decode("ascii") for name in found}))

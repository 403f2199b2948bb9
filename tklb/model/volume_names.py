"""The names of duplicity's volumes, and the order in which they are needed. Pure."""

import re
from typing import NamedTuple


class SetName(NamedTuple):
    """One set of a shard, by its labels. `begin` is "" for the first set of a chain, else the label before it."""

    prefix: str
    begin: str
    end: str


class VolumeNameParts(NamedTuple):
    """The parts of the name of a volume. `part` is manifest, sigtar or vol1.difftar."""

    set: SetName
    part: str

    @property
    def number(self) -> int:
        """The number of a volume with content; 0 for the others."""
        return int(self.part[3:].partition(".")[0]) if self.part.startswith("vol") else 0


def parse_name(name: str) -> VolumeNameParts:
    """Parse the name of a volume. Raises ValueError for any other name."""
    match = VOLUME_NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"no volume: {name!r}")
    prefix, full, begin, end, part = match.groups()
    return VolumeNameParts(SetName(prefix, begin or "", end or full), part)


_TIME = r"([0-9]{8}T[0-9]{6}Z)"
INCOMING = ".incoming-"  # begins the names of folders in a spool that are being worked in
VOLUME_NAME = re.compile(
    r"(?P<prefix>(?:[b-z]-)?)duplicity-"
    rf"(?:(?:full|full-signatures)\.{_TIME}|(?:inc|new-signatures)\.{_TIME}\.to\.{_TIME})"
    r"\.(?P<part>vol[0-9]{1,7}\.difftar|manifest|sigtar)\.gpg"
)


def volume_sort_key(volume: str) -> tuple[int, str]:
    """The sort key for the order in which duplicity decodes volumes: manifests first."""
    found = VOLUME_NAME.fullmatch(volume)
    digits = found["part"].removeprefix("vol").partition(".")[0] if found else ""
    return int(digits) if digits.isdigit() else 0, volume


def snapshot_of_volume(volume: str) -> str:
    """The snapshot that made a volume, by its name; "" for an object that is no volume."""
    return parse_name(volume).set.end if VOLUME_NAME.fullmatch(volume) else ""

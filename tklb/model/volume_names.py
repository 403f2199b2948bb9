"""The names of duplicity's volumes, and the order in which they are needed. Pure."""

import re
from typing import NamedTuple


class SetName(NamedTuple):
    """One set of a shard by its labels. `begin` is "" where it starts a chain, else the label it goes on from."""

    prefix: str
    begin: str
    end: str


class VolumeNameParts(NamedTuple):
    """What the name of a volume says. `part` is manifest, sigtar or vol1.difftar."""

    set: SetName
    part: str

    @property
    def number(self) -> int:
        """Which volume of the set's content it is; 0 for the others."""
        return int(self.part[3:].partition(".")[0]) if self.part.startswith("vol") else 0


def parse_name(name: str) -> VolumeNameParts:
    """Raise ValueError for what is no volume."""
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
    """What sorts volumes in the order in which duplicity decodes them: manifests first."""
    found = VOLUME_NAME.fullmatch(volume)
    digits = found["part"].removeprefix("vol").partition(".")[0] if found else ""
    return int(digits) if digits.isdigit() else 0, volume

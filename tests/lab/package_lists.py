"""Shorter package lists for root file systems, with what tests install and all that it needs.

apt goes through all of Debian in each run, at two seconds of processor time, and through a fifteenth of it in a quarter
of one. `apt-get update` leaves lists alone whose signed summary has not changed, whatever they are. `packages.txt` has
the names; who installs another in a test adds it there, or apt says "Unable to locate package". Touches a root's lists.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

NAMES = Path(__file__).with_name("packages.txt")
LISTS, INSTALLED = "var/lib/apt/lists", "var/lib/dpkg/status"
KEPT = (b"required", b"important", b"standard")
_FIELD = re.compile(rb"^(Package|Priority|Pre-Depends|Depends|Recommends|Provides): (.*)$", re.MULTILINE)
_NAME = re.compile(rb"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]*)")


def shorten(top: Path) -> None:
    """Rewrite the lists of a root that has the right ones; of descriptions in English it needs none."""
    for found in (top / LISTS).glob("*_Packages"):
        status = found.stat()
        descriptions = found.with_name(re.sub("_binary-[a-z0-9]+_Packages$", "_i18n_Translation-en", found.name))
        for path, text in ((found, _shorten(found.read_bytes(), _names(top))), (descriptions, b"")):
            path.write_bytes(text)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _names(top: Path) -> set[bytes]:
    lines = (line for line in NAMES.read_bytes().splitlines() if not line.startswith(b"#"))
    return {*b" ".join(lines).split(), *re.findall(rb"^Package: (.*)$", (top / INSTALLED).read_bytes(), re.MULTILINE)}


def _shorten(text: bytes, names: set[bytes]) -> bytes:
    records = text.split(b"\n\n")
    fields = [dict(_FIELD.findall(record)) for record in records]
    offers: dict[bytes, list[int]] = {}
    for number, each in enumerate(fields):
        for name in (each.get(b"Package", b""), *_NAME.findall(each.get(b"Provides", b""))):
            offers.setdefault(name, []).append(number)
    first = {number for number, each in enumerate(fields) if each.get(b"Priority") in KEPT}
    kept = _all_needed({*first, *_numbers(names, offers)}, fields, offers)
    return b"".join(records[number] + b"\n\n" for number in sorted(kept))


def _all_needed(found: set[int], fields: list[dict[bytes, bytes]], offers: dict[bytes, list[int]]) -> set[int]:
    new = found
    while new:
        needs = (fields[number].get(key, b"") for number in new for key in (b"Pre-Depends", b"Depends", b"Recommends"))
        new = {*_numbers({name for need in needs for name in _NAME.findall(need)}, offers)} - found
        found = found | new
    return found


def _numbers(names: Iterable[bytes], offers: dict[bytes, list[int]]) -> Iterator[int]:
    for name in names:
        yield from offers.get(name, ())

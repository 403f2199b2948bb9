"""List the names in a set of the engine without decoding it, and the volume of each.

Takes decrypted manifests and signature archives of duplicity 3.2.1 (its manifest.py and diffdir.py write them). Gives
names as duplicity's indexes: the parts of a path, the empty tuple for the root, in the order of tuples. Pure, except
that it reads the stream of its caller.
"""

import re
import tarfile
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import pairwise
from typing import IO, NamedTuple

Index = tuple[bytes, ...]

_VOLUME = re.compile(rb"Volume ([0-9]{1,7}):")
_BOUND = re.compile(rb" +(StartingPath|EndingPath) +(\S+).*")
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


class Span(NamedTuple):
    """The names in a volume, from the first to the last; both may continue in a neighbour."""

    first: Index
    last: Index


class State(StrEnum):
    """The state of a name in a set: a regular file, a folder, anything else that is there, or nothing."""

    FILE = "signature"
    OTHER = "snapshot"
    FOLDER = "folder"
    DELETED = "deleted"


def parse_manifest(text: bytes) -> dict[int, Span]:
    """The names in every volume of a set, by its number; volumes without names are left out. Raises ValueError.

    Where the last name fills a volume, duplicity ends the set with an empty one; it then writes the names of the whole
    set for that.
    """
    spans = dict(_spans(text.split(b"\n")))
    order = sorted(spans)
    empty = {after for one, after in pairwise(order) if spans[after].first < spans[one].last}
    return {number: spans[number] for number in order if number not in empty}


def _spans(lines: Iterable[bytes]) -> Iterator[tuple[int, Span]]:
    number, bounds = 0, dict[bytes, Index]()
    for line in lines:
        if heading := _VOLUME.fullmatch(line):
            number, bounds = int(heading[1]), {}
        elif number and (bound := _BOUND.fullmatch(line)):
            bounds[bound[1]] = _index(bound[2])
        if bounds.keys() == {b"StartingPath", b"EndingPath"}:
            yield number, Span(bounds[b"StartingPath"], bounds[b"EndingPath"])
            bounds = {}


def _index(quoted: bytes) -> Index:
    if quoted == b".":
        return ()
    if quoted.startswith(b'"'):
        if len(quoted) < len(b'""') or not quoted.endswith(b'"'):
            raise ValueError(f"not a name of a manifest: {quoted!r}")
        quoted = _ESCAPED.sub(lambda escaped: bytes.fromhex(escaped[1].decode()), quoted[1:-1])
    return tuple(quoted.split(b"/"))


def read_signatures(stream: IO[bytes]) -> Iterator[tuple[Index, State]]:
    """Every name in the signature archive of a set, in order, with its state. Raises ValueError."""
    try:
        with tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
            while member := archive.next():
                archive.members = []  # type: ignore[attr-defined]  # otherwise it keeps them all
                word, _, name = member.name.encode("utf-8", "surrogateescape").partition(b"/")
                state = State.FOLDER if member.isdir() else State(word.decode("ascii"))
                yield tuple(name.split(b"/")) if name else (), state
    except tarfile.TarError as exc:
        raise ValueError(f"not a signature archive: {exc}") from exc

"""Ask apt what the package sources of this machine offer.

Takes labels (`name` or `name:architecture`); gives versions. Changes nothing but a file that keeps an answer.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from tklb.base.fs import private_folder
from tklb.base.json import read_state, write_state
from tklb.diff.packages import compare_versions, label, native_architecture
from tklb.errors import TklbError
from tklb.host.apt.command import NAME, run_apt
from tklb.lazy_dataclass import dataclass
from tklb.model.packages import Package, PackageDelta, PackageOffer

_FRESH = ("-o", "Dir::State::status=/dev/null", "-o", "Dir::Cache::pkgcache=")  # as if nothing were installed
_PROBE = "dpkg"  # every archive of a release has it; if no source offers it, apt has no lists
_VERSION = re.compile(r"(?: \*\*\*|    ) (\S+) -?[0-9]+")
_SOURCE = re.compile(r" {6,}-?[0-9]+ (\S.*)")
_EXACT = re.compile(r"([a-z0-9][a-z0-9+.-]+)(?::[a-z0-9-]+)? \(= (\S+)\)")  # a relation of deb-control(5)


@dataclass(frozen=True, slots=True)
class PackageOrigins:
    """The packages of this machine that apt would not choose again by itself. Sorted labels."""

    local: tuple[str, ...] = ()  # added packages that no source offers: they came from a .deb file
    newer: tuple[str, ...] = ()  # newer than what apt would choose on a fresh machine with the same sources


def list_offers(root: bytes, labels: Iterable[str]) -> dict[str, PackageOffer]:
    """Give what is offered of each label that apt knows."""
    return _ask(root, labels, ())


def list_exact_needs(root: bytes, name: str, version: str) -> tuple[tuple[str, str], ...]:
    """List the labels that a version of a package needs in one very version, each with that version."""
    said = run_apt(root, ["apt-cache", "show", "--", f"{name}={version}"], accept=(0, 100)).stdout
    lines = re.findall(r"^(?:Pre-)?Depends: (.*)$", said.decode("utf-8", "replace"), re.MULTILINE)
    needs = (_EXACT.fullmatch(word.strip()) for line in lines for word in line.split(","))
    architecture = "".join(name.partition(":")[1:])
    return tuple((need[1] + architecture, need[2]) for need in needs if need)


def find_offers(root: bytes, labels: Iterable[str]) -> dict[str, PackageOffer]:
    """Give what is offered of each label. No answer at all means that apt has no lists."""
    return _need_lists(_ask(root, [*labels, _PROBE], ()))


def find_origins(
    root: bytes, packages: tuple[Package, ...], delta: PackageDelta, cache: Path | None = None
) -> PackageOrigins:
    """Tell where the installed packages came from.

    If apt has no lists, the answer is empty. `cache` keeps the answer until lists, sources or packages change, because
    asking takes most of a second.
    """
    native = native_architecture(packages)
    versions = {label(package, native): package.version for package in packages}
    added = sorted(label(package, native) for package in delta.added)
    if not versions:
        return PackageOrigins()
    states = [*_list_states(root), *_source_states(root)]
    key = sha256(json.dumps([sorted(versions.items()), added, states]).encode()).hexdigest()
    answers = cache / "offers.json" if cache is not None else None
    if answers is not None and (answer := _read_answer(answers, key)) is not None:
        return answer
    offers = _need_lists(_ask(root, [*versions, _PROBE], _FRESH))
    found = PackageOrigins(
        local=tuple(name for name in added if offers and not offers.get(name, PackageOffer()).versions),
        newer=tuple(name for name in sorted(versions) if name in offers and _is_newer(versions[name], offers[name])),
    )
    if answers is not None:
        with contextlib.suppress(OSError, TklbError):
            private_folder(answers.parent)
            write_state(answers, {"key": key, **asdict(found)})
    return found


def _is_newer(version: str, offer: PackageOffer) -> bool:
    return bool(offer.candidate) and compare_versions(version, offer.candidate) > 0


def _need_lists(offers: dict[str, PackageOffer]) -> dict[str, PackageOffer]:
    return offers if offers.get(_PROBE, PackageOffer()).versions else {}


def _ask(root: bytes, labels: Iterable[str], options: tuple[str, ...]) -> dict[str, PackageOffer]:
    names = sorted(name for name in labels if NAME.fullmatch(name))
    if not names:
        return {}
    said = run_apt(root, ["apt-cache", *options, "policy", "--", *names], accept=(0, 100)).stdout
    found = dict(_parse_policy(said.decode("utf-8", "replace")))
    return {name: found[name] for name in names if name in found}


def _parse_policy(said: str) -> Iterator[tuple[str, PackageOffer]]:
    """Read `apt-cache policy`: a version counts if it comes from a list, not only from the status of dpkg."""
    for block in re.split(r"^(?=\S)", said, flags=re.MULTILINE):
        name, _, rest = block.partition(":\n")
        candidate = re.search(r"^  Candidate: (\S+)", rest, re.MULTILINE)
        known = candidate[1] if candidate and candidate[1] != "(none)" else ""
        versions = tuple(_parse_versions(rest))
        if name:
            yield name, PackageOffer(versions, known if known in versions else "")


def _parse_versions(lines: str) -> Iterator[str]:
    version = ""
    for line in lines.splitlines():
        if match := _VERSION.match(line):
            version = match[1]
        elif version and (source := _SOURCE.match(line)) and not source[1].endswith("/status"):
            yield version
            version = ""


def _read_answer(file: Path, key: str) -> PackageOrigins | None:
    def parse(answer: dict[str, Any]) -> PackageOrigins | None:
        found = PackageOrigins(tuple(answer["local"]), tuple(answer["newer"]))
        return found if answer["key"] == key else None

    return read_state(file, parse, None)


def _list_states(root: bytes) -> list[tuple[str, int, int]]:
    folder = os.path.join(root, b"var/lib/apt/lists")
    return [state for state in _states(folder) if "Packages" in state[0]]


def _source_states(root: bytes) -> list[tuple[str, int, int]]:
    folders = (b"etc/apt", b"etc/apt/sources.list.d", b"etc/apt/preferences.d")
    return [state for folder in folders for state in _states(os.path.join(root, folder))]


def _states(folder: bytes) -> list[tuple[str, int, int]]:
    try:
        with os.scandir(folder) as found:
            stats = [(os.fsdecode(item.name), item.stat(follow_symlinks=False)) for item in found if item.is_file()]
    except OSError:
        return []
    return sorted((name, status.st_mtime_ns, status.st_size) for name, status in stats)

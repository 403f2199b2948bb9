"""Compare two root file systems fact by fact, independently of tklb (nothing of it is imported here).

Takes roots (or facts recorded as JSON), gives mismatches, each with its reason; reads only. Owners and ACL entries
are compared by name as each root's own passwd and group have it, by number where there is none. Sockets are ignored.

    python3 -m tests.lab.checker record ROOT PATH… >facts.json
    python3 -m tests.lab.checker compare ROOT|facts.json ROOT|facts.json PATH… [--allow PATTERN]…

Sources: acl(5), linux/posix_acl_xattr.h, lseek(2) on SEEK_DATA.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import stat
import struct
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Fact = dict[str, Any]
Facts = dict[str, Fact]
KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}
ACLS = {"system.posix_acl_access": "acl", "system.posix_acl_default": "default acl"}
ACL_TAGS = {0x01: "owner", 0x02: "user", 0x04: "owning group", 0x08: "group", 0x10: "mask", 0x20: "other"}
LAB_OWN = ("trusted.overlay.",)  # the overlay's own notes on its upper layer
BLOCK = 4096


class Mismatch(NamedTuple):
    """`what` differs at `path`: `left` in the first root, `right` in the second (None: absent)."""

    path: str
    what: str
    left: object
    right: object

    def __str__(self) -> str:
        return f"{self.path!r}: {self.what}: {self.left!r} became {self.right!r}"


class Names(NamedTuple):
    """What a root calls a uid and a gid: all names of the number joined by "+", or "#NUMBER"."""

    users: dict[int, str]
    groups: dict[int, str]

    def user(self, uid: int) -> str:
        return self.users.get(uid, f"#{uid}")

    def group(self, gid: int) -> str:
        return self.groups.get(gid, f"#{gid}")


def names_of(root: Path) -> Names:
    return Names(_book(root / "etc/passwd"), _book(root / "etc/group"))


def _book(path: Path) -> dict[int, str]:
    names: dict[int, list[str]] = {}
    for line in path.read_bytes().decode("utf-8", "surrogateescape").split("\n") if path.exists() else []:
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isdigit():
            names.setdefault(int(fields[2]), []).append(fields[0])
    return {number: "+".join(sorted(set(them))) for number, them in names.items()}


def record(root: Path, paths: Sequence[str]) -> Facts:
    """Every fact about everything at and below `paths` (absolute, as seen inside), by path inside."""
    names, facts = names_of(root), Facts()
    links: dict[tuple[int, int], list[str]] = {}
    for inside, status in _walk(os.fsencode(root), paths):
        path = os.fsencode(root) + inside
        key = os.fsdecode(inside)
        facts[key] = _facts_of(path, status, names)
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            links.setdefault((status.st_dev, status.st_ino), []).append(key)
    for group in links.values():
        for member in group if len(group) > 1 else ():
            facts[member]["hard links"] = sorted(group)
    return facts


def _walk(root: bytes, paths: Sequence[str]) -> Iterator[tuple[bytes, os.stat_result]]:
    todo = [os.fsencode(path) for path in paths]
    seen = set()
    while todo:
        inside = todo.pop()
        if inside in seen or not os.path.lexists(root + inside):
            continue
        seen.add(inside)
        status = os.lstat(root + inside)
        if not stat.S_ISSOCK(status.st_mode):
            yield inside, status
        if stat.S_ISDIR(status.st_mode):
            todo += [os.path.join(inside, name) for name in os.listdir(root + inside)]


def _facts_of(path: bytes, status: os.stat_result, names: Names) -> Fact:
    kind = KINDS[stat.S_IFMT(status.st_mode)]
    fact: Fact = {
        "kind": kind,
        "owner": names.user(status.st_uid),
        "group": names.group(status.st_gid),
        "mtime": status.st_mtime_ns,
    }
    if kind == "link":
        fact["target"] = os.fsdecode(os.readlink(path))
    else:
        fact["mode"] = f"{stat.S_IMODE(status.st_mode):04o}"
    if kind.endswith("device"):
        fact["device"] = [os.major(status.st_rdev), os.minor(status.st_rdev)]
    if kind == "file":
        fact |= _content(path, status)
    return fact | _attributes(path, names)


def _content(path: bytes, status: os.stat_result) -> Fact:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME), "rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
        holes = _holes(file.fileno(), status.st_size)
    return {"size": status.st_size, "content": content} | ({"holes": holes} if holes else {})


def _holes(descriptor: int, size: int) -> list[list[int]]:
    """Start and end of every hole of whole blocks, in bytes."""
    holes, position = [], 0
    while position < size:
        start = os.lseek(descriptor, position, os.SEEK_HOLE)
        try:
            position = os.lseek(descriptor, start, os.SEEK_DATA) if start < size else size
        except OSError:  # ENXIO: no data after this hole
            position = size
        if position - start >= BLOCK:
            holes.append([start, position])
    return holes


def _attributes(path: bytes, names: Names) -> Fact:
    fact: Fact = {}
    for attribute in sorted(os.listxattr(path, follow_symlinks=False)):
        value = os.getxattr(path, attribute, follow_symlinks=False)
        if attribute in ACLS:
            fact[ACLS[attribute]] = _acl(value, names)
        elif attribute == "security.capability":
            fact["capability"] = value.hex()
        elif not attribute.startswith(LAB_OWN):
            fact[f"xattr {attribute}"] = value.hex()
    return fact


def _acl(value: bytes, names: Names) -> list[str]:
    entries = []
    for tag, rights, number in struct.iter_unpack("<HHI", value[4:]):
        kind = ACL_TAGS.get(tag, str(tag))
        name = names.user(number) if kind == "user" else names.group(number) if kind == "group" else ""
        entries.append(f"{kind}:{name}:{rights:o}")
    return sorted(entries)


Allowed = Collection[str | tuple[str, str]]


def compare(
    left: Facts, right: Facts, *, allowed: Allowed = (), folder_times: Callable[[str], bool] = lambda path: True
) -> list[Mismatch]:
    """Every difference, sorted by path. Allowed to differ: PATTERN wholly, (PATTERN, what) in that alone.

    In a pattern `*` is anything within one component and `**` anything at all. `folder_times` says of which folders
    the mtime counts: one that is there on both sides before the owner's deeds need not keep its own.
    """
    found = []
    for path in sorted(left.keys() | right.keys()):
        if _is_allowed(path, "", allowed):
            continue
        differences = _differences(path, left.get(path), right.get(path))
        found += [
            mismatch
            for mismatch in differences
            if not _is_allowed(path, mismatch.what, allowed)
            and not (mismatch.what == "mtime" and left[path]["kind"] == "folder" and not folder_times(path))
        ]
    return found


def _differences(path: str, left: Fact | None, right: Fact | None) -> list[Mismatch]:
    if left is None or right is None:
        what = "unexpected" if left is None else "missing"
        return [Mismatch(path, what, left and left["kind"], right and right["kind"])]
    if left["kind"] != right["kind"]:
        return [Mismatch(path, "kind", left["kind"], right["kind"])]
    return [
        Mismatch(path, what, left.get(what), right.get(what))
        for what in sorted(left.keys() | right.keys())
        if left.get(what) != right.get(what)
    ]


def _is_allowed(path: str, what: str, allowed: Allowed) -> bool:
    for rule in allowed:
        pattern, only = (rule, "") if isinstance(rule, str) else rule
        if only == what and _matches(pattern, path):
            return True
    return False


def _matches(pattern: str, path: str) -> bool:
    parts = (".*" if part == "**" else "[^/]*" if part == "*" else re.escape(part) for part in _split(pattern))
    return re.fullmatch("".join(parts), path, re.DOTALL) is not None


def _split(pattern: str) -> list[str]:
    return [part for part in re.split(r"(\*\*|\*)", pattern) if part]


def compare_roots(left: Path, right: Path, paths: Sequence[str], *, allowed: Allowed = ()) -> list[Mismatch]:
    """`compare` of two roots as they are now."""
    return compare(record(left, paths), record(right, paths), allowed=allowed)


def read_facts(source: Path, paths: Sequence[str]) -> Facts:
    """Facts of a root, or of a file that `record` wrote (below `paths`, all of them if none is given)."""
    if source.is_dir():
        return record(source, paths)
    facts: Mapping[str, Fact] = json.loads(source.read_text())
    below = tuple(path.rstrip("/") + "/" for path in paths)
    return {path: fact for path, fact in facts.items() if not paths or path in paths or path.startswith(below)}


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0 equal, 3 mismatches (one a line on stdout)."""
    parser = argparse.ArgumentParser(prog="checker", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recorder, comparer = commands.add_parser("record"), commands.add_parser("compare")
    recorder.add_argument("root", type=Path)
    comparer.add_argument("left", type=Path)
    comparer.add_argument("right", type=Path)
    comparer.add_argument("--allow", action="append", default=[])
    for command in (recorder, comparer):
        command.add_argument("paths", nargs="*")
    asked = parser.parse_args(arguments)
    if asked.command == "record":
        json.dump(record(asked.root, asked.paths), sys.stdout, indent=0)
        return 0
    left, right = read_facts(asked.left, asked.paths), read_facts(asked.right, asked.paths)
    mismatches = compare(left, right, allowed=asked.allow)
    for mismatch in mismatches:
        print(mismatch)
    print(f"{len(left)} and {len(right)} paths, {len(mismatches)} mismatches", file=sys.stderr)
    return 3 if mismatches else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A machine in memory, for plans: a tree of inodes that answers as a real one does and carries out file steps strictly.

Every step that a real machine would refuse (a folder that is not empty, a parent that is none) is an assertion.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import count

from tklb.diff.path_names import resolve_link
from tklb.model.files import FileEntry
from tklb.model.plan import Plan, Step, StepKind
from tklb.restore.plan.files.present import is_at_or_below, parent_of


@dataclass
class Inode:
    entry: FileEntry  # its path says nothing
    content: bytes = b""


@dataclass
class Tree:
    """`names` leads from paths to inode numbers. Paths through a link are not there, as for a real view."""

    names: dict[bytes, int] = field(default_factory=dict)
    inodes: dict[int, Inode] = field(default_factory=dict)
    numbers: count = field(default_factory=lambda: count(1))
    asked: int = 0  # digests
    mounts: tuple[bytes, ...] = ()

    def copy(self) -> "Tree":
        inodes = {number: replace(inode) for number, inode in self.inodes.items()}
        return Tree(dict(self.names), inodes, count(max(inodes, default=0) + 1))

    def put(self, path: bytes, kind: str = "file", content: bytes = b"", **facts: object) -> None:
        parent = parent_of(path)
        if path != b"/" and parent not in self.names:
            self.put(parent, "dir")
        number = next(self.numbers)
        entry = FileEntry(path, kind, 0o755, 0, 0, mtime_ns=7, xattrs=())._replace(**facts)
        self.names[path], self.inodes[number] = number, Inode(entry, content)

    def link(self, path: bytes, partner: bytes) -> None:
        if parent_of(path) not in self.names:
            self.put(parent_of(path), "dir")
        self.names[path] = self.names[partner]

    def remove(self, path: bytes) -> None:
        for name in [name for name in self.names if name == path or name.startswith(path + b"/")]:
            del self.names[name]

    # ------------------------------------------------------------ as a plan sees it

    def entry(self, path: bytes) -> FileEntry | None:
        number = self.names.get(path)
        if number is None or self.find_barrier(path):
            return None
        inode = self.inodes[number]
        links = sum(1 for other in self.names.values() if other == number)
        is_file = inode.entry.kind == "file"
        return inode.entry._replace(
            path=path, size=len(inode.content) if is_file else None, dev=1, ino=number,
            nlink=links, uname=None, gname=None, sha256=None,
        )  # fmt: skip

    def whole(self, path: bytes) -> FileEntry:
        entry = self.entry(path)
        assert entry is not None
        return entry._replace(sha256=self.digest(path, "sha256") if entry.kind == "file" else None)

    def names_in(self, path: bytes) -> list[bytes]:
        return [name for name in self.names if name != b"/" and parent_of(name) == path]

    def names_of(self, path: bytes) -> tuple[bytes, ...]:
        return tuple(sorted(name.rpartition(b"/")[2] for name in self.names_in(path)))

    def digest(self, path: bytes, algorithm: str) -> str | None:
        number = self.names.get(path)
        if number is None or self.inodes[number].entry.kind != "file":
            return None
        self.asked += 1
        return hashlib.new(algorithm, self.inodes[number].content).hexdigest()

    def head(self, path: bytes, count: int) -> bytes:
        number = self.names.get(path)
        return b"" if number is None or self.find_barrier(path) else self.inodes[number].content[:count]

    def find_barrier(self, path: bytes) -> bytes | None:
        parts = path.split(b"/")
        for depth in range(2, len(parts)):
            above = b"/".join(parts[:depth])
            number = self.names.get(above)
            if number is not None and self.inodes[number].entry.kind != "dir":
                return above
        return None

    def resolve(self, path: bytes) -> bytes | None:
        """Where a path leads with all links followed; None if that is nowhere."""
        for _ in range(20):
            if path in self.names and not self.find_barrier(path) and self.entry(path).kind != "link":
                return path
            link = self.find_barrier(path) or path
            if link not in self.names or self.entry(link).kind != "link":
                return None
            path = resolve_link(link, self.entry(link).link or b"") + path[len(link) :]
        return None

    def has_target(self, path: bytes) -> bool:
        return self.resolve(path) is not None

    def leads_to_folder(self, path: bytes) -> bool:
        goal = self.resolve(path)
        return goal is not None and self.entry(goal).kind == "dir"

    def find_mount(self, path: bytes) -> bytes | None:
        return next((point for point in self.mounts if (point + b"/").startswith(path + b"/")), None)

    # ------------------------------------------------------------ as a plan changes it

    def carry_out(self, plan: Plan, contents: dict[str, bytes]) -> None:
        for step in plan.steps:
            if step.kind in (StepKind.MOVE, StepKind.WRITE, StepKind.LINK, StepKind.METADATA, StepKind.DELETE):
                self._do(step, contents)
        for path, mtime_ns in plan.folder_times:
            inode = self.inodes[self.names[path]]
            assert inode.entry.kind == "dir"
            inode.entry = inode.entry._replace(mtime_ns=mtime_ns)

    def _do(self, step: Step, contents: dict[str, bytes]) -> None:
        path = step.item
        here = self.entry(path)
        assert self.find_barrier(path) is None
        if parent_of(path) not in self.names:
            assert step.entry is not None
            self.put(parent_of(path), "dir")
        assert self.inodes[self.names[parent_of(path)]].entry.kind == "dir"
        match step.kind:
            case StepKind.MOVE:
                assert (here.kind, here.ino) == (step.was.kind, step.was.ino)
                assert step.partner not in self.names
                assert parent_of(step.partner) == parent_of(path)
                for name in [name for name in self.names if is_at_or_below(name, path)]:
                    self.names[step.partner + name[len(path) :]] = self.names.pop(name)
            case StepKind.DELETE:
                assert here is not None
                assert (here.kind, here.ino) == (step.was.kind, step.was.ino)
                assert not self.names_in(path)
                del self.names[path]
            case StepKind.METADATA:
                self._dress(self.inodes[self.names[path]], step.entry)
            case StepKind.LINK:
                self._make_room(step, here)
                self.names[path] = self.names[step.partner]
                self._dress(self.inodes[self.names[path]], step.entry)
            case StepKind.WRITE:
                self._make_room(step, here)
                if step.entry.kind == "dir" and here is not None and here.kind == "dir":
                    raise AssertionError("a folder is there already")
                content = contents[step.entry.sha256] if step.entry.kind == "file" else b""
                self.put(path, step.entry.kind, content)
                self._dress(self.inodes[self.names[path]], step.entry)
        self._touch(parent_of(path), step)

    def _make_room(self, step: Step, here: FileEntry | None) -> None:
        if here is None:
            return
        assert step.was is not None
        assert here.kind == step.was.kind
        assert not self.names_in(step.item), "what stands there still holds something"
        del self.names[step.item]

    def _dress(self, inode: Inode, entry: FileEntry) -> None:
        mtime_ns = inode.entry.mtime_ns if entry.kind == "dir" else entry.mtime_ns
        inode.entry = entry._replace(mtime_ns=mtime_ns)

    def _touch(self, folder: bytes, step: Step) -> None:
        if step.kind is not StepKind.METADATA:
            inode = self.inodes[self.names[folder]]
            inode.entry = inode.entry._replace(mtime_ns=999)


class View:
    """What a plan gets to see of a tree."""

    def __init__(self, tree: Tree) -> None:
        self.entry, self.names, self.digest = tree.entry, tree.names_of, tree.digest
        self.find_barrier = tree.find_barrier
        self.head = tree.head
        self.find_mount, self.has_target, self.leads_to_folder = tree.find_mount, tree.has_target, tree.leads_to_folder

    def find_safe_target(self, path: bytes) -> None:
        return None

    def list_followed_links(self) -> tuple[tuple[bytes, bytes], ...]:
        return ()

    def list_problems(self) -> tuple[tuple[bytes, str], ...]:
        return ()


def contents_of(*trees: Tree) -> dict[str, bytes]:
    return {
        hashlib.sha256(inode.content).hexdigest(): inode.content for tree in trees for inode in tree.inodes.values()
    }


def groups_of(tree: Tree, wanted: Iterable[bytes]) -> tuple[tuple[bytes, ...], ...]:
    """The hard-link groups of the tree that a wanted path is in."""
    by_number: dict[int, list[bytes]] = {}
    for path, number in sorted(tree.names.items()):
        if tree.inodes[number].entry.kind != "dir":
            by_number.setdefault(number, []).append(path)
    chosen = set(wanted)
    return tuple(tuple(paths) for paths in by_number.values() if len(paths) > 1 and chosen.intersection(paths))


def delta_of(base: Tree, now: Tree) -> tuple[list[FileEntry], list[bytes]]:
    """The manifest and the deleted paths, as a backup records them."""
    manifest, deleted = [], []
    for path in sorted(base.names.keys() | now.names.keys()):
        old = base.whole(path) if path in base.names else None
        new = now.whole(path) if path in now.names else None
        if old and (new is None or new.kind != old.kind):
            deleted.append(path)
        if new and (old is None or _facts(old) != _facts(new)):
            manifest.append(new)
    return manifest, deleted


def _facts(entry: FileEntry) -> FileEntry:
    mtime_ns = None if entry.kind == "dir" else entry.mtime_ns
    return entry._replace(mtime_ns=mtime_ns, size=None, ino=None, dev=None, nlink=None)


__all__ = ["Tree", "View", "contents_of", "delta_of", "groups_of"]

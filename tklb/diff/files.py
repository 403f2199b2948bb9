"""Compare two listings of files: one sorted merge in constant memory. Pure.

Both listings are in plain byte order of whole paths. Only fields that the base has are compared. So a base with kinds
and digests only, such as dpkg's, is as good as a complete one.

Rules of the comparison:
- A path with another kind of object is both deleted and new.
- A file is edited if its size or digest differs. Without a digest, another mtime counts as an edit. So does another
  ctime that nothing else explains: a new mode, owner or attribute, or another hard link to the same inode. Another link
  target or device number is an edit too.
- Otherwise it is metadata if mode, owner, extended attributes, flags or mtime differ; a silent base has no flags. It is
  also metadata if a path left or joined a group of hard links (another inode, and one of the two had links). The mtime
  counts for files and links only: use alone gives folders, pipes and devices a new one. A link has no mode of its own.
- Owners are compared by name if both have one, otherwise by number: a system user may have another number on the
  machine of the base.
- Holes are a way to store a file and make no difference.
"""

from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import TypeVar

from tklb.model.files import Change, FileChange, FileEntry
from tklb.model.report import Skipped

Digest = Callable[[FileEntry, str], str | None]
Row = TypeVar("Row")


def compare(
    base: Iterable[FileEntry],
    now: Iterable[FileEntry],
    digest: Digest | None = None,
    unseen: Iterable[Skipped] = (),
) -> Iterator[FileChange]:
    """Give the changes from `base` to `now`, sorted by path; for one path deleted comes before new.

    `digest(entry, "sha256" or "md5")` reads a file of `now`. It is called if the base has that digest, `now` has not,
    and the sizes are equal; None means that the file cannot be read. `unseen` (it may grow meanwhile) names what a scan
    could not see: what is missing at and below these paths is not called deleted. Raises ValueError when an input is
    out of order.
    """
    for old, new in pair_by_path(base, now, itemgetter(0)):
        yield from compare_pair(old, new, digest, unseen)


def pair_by_path(
    base: Iterable[Row], now: Iterable[Row], path_of: Callable[[Row], bytes]
) -> Iterator[tuple[Row | None, Row | None]]:
    """Pair the rows of two listings by path, and leave out those that are equal.

    Raises ValueError if a listing is out of order.
    """
    olds, news = iter(base), iter(now)
    old, new = next(olds, None), next(news, None)
    last_old = last_new = None
    while old is not None or new is not None:
        if old == new:
            last_old, last_new = old, new
            old, new = next(olds, None), next(news, None)
            continue
        old_path = None if old is None else _next_path(last_old, old, path_of, "base")
        new_path = None if new is None else _next_path(last_new, new, path_of, "new")
        has_old = old_path is not None and (new_path is None or old_path <= new_path)
        has_new = new_path is not None and (old_path is None or new_path <= old_path)
        yield old if has_old else None, new if has_new else None
        if has_old:
            last_old, old = old, next(olds, None)
        if has_new:
            last_new, new = new, next(news, None)


def _next_path(last: Row | None, row: Row, path_of: Callable[[Row], bytes], name: str) -> bytes:
    path = path_of(row)
    if last is not None and path <= path_of(last):
        raise ValueError(f"the {name} listing is not sorted: {path!r} after {path_of(last)!r}")
    return path


def compare_pair(
    old: FileEntry | None, new: FileEntry | None, digest: Digest | None, unseen: Iterable[Skipped]
) -> Iterator[FileChange]:
    """Give the changes of one path: none, one or two."""
    if old is None:
        assert new is not None
        yield FileChange(new.path, Change.NEW, None, new)
    elif new is None:
        if not _is_within(old.path, unseen):
            yield FileChange(old.path, Change.DELETED, old, None)
    elif old.kind != new.kind:
        yield FileChange(old.path, Change.DELETED, old, None)
        yield FileChange(new.path, Change.NEW, None, new)
    else:
        change = _change_within_kind(old, new, digest)
        if change is not None:
            yield FileChange(new.path, change, old, new)


def _change_within_kind(old: FileEntry, new: FileEntry, digest: Digest | None) -> Change | None:
    has_new_metadata = _has_new_metadata(old, new)
    if _is_edited(old, new, digest, is_explained=has_new_metadata):
        return Change.EDITED
    if has_new_metadata or _is_touched(old, new) or _is_relinked(old, new):
        return Change.METADATA
    return None


def _is_within(path: bytes, unseen: Iterable[Skipped]) -> bool:
    return any(path == item.item or path.startswith(item.item.rstrip(b"/") + b"/") for item in unseen)


def _differs(old: object, new: object) -> bool:
    return old is not None and new is not None and old != new


def _has_new_owner(old_id: int | None, new_id: int | None, old_name: bytes | None, new_name: bytes | None) -> bool:
    if old_name is None or new_name is None:
        return _differs(old_id, new_id)
    return old_name != new_name


def _has_new_metadata(old: FileEntry, new: FileEntry) -> bool:
    return (
        (old.kind != "link" and _differs(old.mode, new.mode))
        or _has_new_owner(old.uid, new.uid, old.uname, new.uname)
        or _has_new_owner(old.gid, new.gid, old.gname, new.gname)
        or _differs(old.xattrs, new.xattrs)
        or (old.flags or "") != (new.flags or "")
    )


def _is_touched(old: FileEntry, new: FileEntry) -> bool:
    return old.kind in ("file", "link") and _differs(old.mtime_ns, new.mtime_ns)


def _is_relinked(old: FileEntry, new: FileEntry) -> bool:
    is_linked = max(old.nlink or 1, new.nlink or 1) > 1
    return old.kind != "dir" and is_linked and _differs(old.ino, new.ino)


def _is_edited(old: FileEntry, new: FileEntry, digest: Digest | None, *, is_explained: bool) -> bool:
    if old.kind != "file":
        return _differs(old.link, new.link) or _differs(old.device, new.device)
    if _differs(old.size, new.size):
        return True
    has_same_content = _has_same_content(old, new, digest)
    if has_same_content is not None:
        return not has_same_content
    if _differs(old.mtime_ns, new.mtime_ns):
        return True
    is_other_inode = _differs(old.ino, new.ino)
    is_explained = (is_explained or _differs(old.nlink, new.nlink)) and not is_other_inode
    return _differs(old.ctime_ns, new.ctime_ns) and not is_explained


def _has_same_content(old: FileEntry, new: FileEntry, digest: Digest | None) -> bool | None:
    """Compare the digests; None if there are none to compare."""
    for before, after in ((old.sha256, new.sha256), (old.md5, new.md5)):
        if before is not None and after is not None:
            return before == after
    for algorithm, before in (("sha256", old.sha256), ("md5", old.md5)):
        if before is not None and digest is not None:
            after = digest(new, algorithm)
            return None if after is None else before == after
    return None

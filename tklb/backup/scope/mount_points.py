"""Mount points in scope: which a backup enters, and why not the others. Other paths of the target count as well."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from tklb.diff.rules import Rules, split_path
from tklb.errors import printable
from tklb.host.mounts import (
    NETWORK,
    PASSING,
    PSEUDO,
    Mount,
    find_mount,
    find_other_paths,
    is_same_object,
    is_within,
)
from tklb.model.report import MountPoint

IsSame = Callable[[bytes, bytes], bool]  # whether two paths lead to one object


def find_mount_points(
    rules: Rules,
    mounts: Sequence[Mount],
    own: Iterable[bytes],
    target: Iterable[bytes],
    is_same: IsSame = is_same_object,
) -> tuple[MountPoint, ...]:
    """Give the mount points that the rules reach, except those below `own`, and the disk of the target. Sorted.

    `target` are the paths of the target, if it is a folder of this machine.
    """
    own, doubles = tuple(own), _find_doubles(rules, mounts, is_same)
    disks = {mount for path in target if (mount := find_mount(mounts, path)) and not _is_reached(rules, mount)}
    points = (
        _describe(rules, mount, doubles.get(mount.point))
        for mount in mounts
        if _is_reached(rules, mount) and not any(is_within(mount.point, path) for path in own)
    )
    return tuple(sorted((*points, *(_describe_disk(mount) for mount in disks if mount.point != b"/"))))


def _is_reached(rules: Rules, mount: Mount) -> bool:
    if mount.point == b"/" or mount.kind in PSEUDO:
        return False
    try:
        return rules.may_hold(mount.point)
    except ValueError:
        return False


def _find_doubles(rules: Rules, mounts: Sequence[Mount], is_same: IsSame) -> dict[bytes, bytes]:
    """Give the mount points of folders that are taken under another path, and that path.

    Of two equal ones the earlier is taken. A mount of the root holds the whole scope again.
    """
    found: dict[bytes, bytes] = {}
    for mount in reversed([mount for mount in mounts if _is_reached(rules, mount)]):
        others = (
            other
            for other in find_other_paths(mounts, mount.point)
            if _is_taken_there(rules, mount, other) and is_same(other, mount.point)
        )
        first = next((other for other in others if not any(is_within(other, point) for point in found)), None)
        if first is not None:
            found[mount.point] = first
    return found


def _is_taken_there(rules: Rules, mount: Mount, other: bytes) -> bool:
    return not is_within(other, mount.point) and (other == b"/" or rules.decide(other).included)


def _describe_disk(mount: Mount) -> MountPoint:
    kind = mount.kind.decode("ascii", "replace")
    return MountPoint(mount.point, kind, None, False, "the target is on it; an override takes what else is there")


def _describe(rules: Rules, mount: Mount, other: bytes | None) -> MountPoint:
    kind = mount.kind.decode("ascii", "replace")
    if other is not None:
        return MountPoint(mount.point, kind, None, False, f"the same as {printable(other)}")
    if mount.kind in PASSING and not _is_named(rules, mount.point):
        return MountPoint(mount.point, kind, None, False, f"the content of a file system of kind {kind} does not last")
    if mount.uid and not _is_named(rules, mount.point):
        return MountPoint(mount.point, kind, None, False, f"a program of user {mount.uid} makes up its content")
    reason = "on another machine" if mount.kind in NETWORK else f"on {printable(mount.source)}"
    return MountPoint(mount.point, kind, None if mount.kind in NETWORK else _measure(mount.point), True, reason)


def _is_named(rules: Rules, point: bytes) -> bool:
    """Whether an override includes the mount point itself, or something in it."""
    folder, depth = rules.find_folder(point), len(split_path(point))
    rule = folder.decision.rule
    is_included = rule is not None and rule.include and rule.is_override and len(split_path(rule.pattern)) >= depth
    return is_included or any(rule.include and rule.is_override for rule in folder.rules_below())


def _measure(point: bytes) -> int | None:
    try:
        status = os.statvfs(point)
    except OSError:
        return None
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def list_closed(points: Iterable[MountPoint]) -> Iterator[bytes]:
    """Give the mount points that a walk must not enter."""
    return (point.path for point in points if not point.taken)

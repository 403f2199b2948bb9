"""Put the files of a decoded snapshot into a folder, without applying anything to this machine."""

import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tklb.base.fs import private_folder
from tklb.base.measure import format_count
from tklb.errors import RestoreRefused
from tklb.host.files.openat import descriptor_path
from tklb.host.files.walk import find_identities
from tklb.host.files.write_entry import FileWriter
from tklb.model.report import Skipped
from tklb.restore.plan.backup_skips import name_backup_skip, select_backup_skips
from tklb.restore.plan.files.changed import describe_stored
from tklb.restore.plan.filter import RestoreFilter
from tklb.restore.plan.inputs import SnapshotContents
from tklb.restore.prepare import DecodedSnapshot, read_contents

log = logging.getLogger(__name__)


def need_empty_folder(into: Path, own: Iterable[bytes]) -> None:
    """Raise RestoreRefused where the folder exists and is not empty, is something else, or lies in `own`."""
    barred, real = find_identities(own), Path(os.path.realpath(into))
    above = next((folder for folder in (real, *real.parents) if find_identities((bytes(folder),)) & barred), None)
    if above is not None:
        raise RestoreRefused(reason=f"tklb keeps its state or its target in {above}")
    if os.path.lexists(into) and (not into.is_dir() or into.is_symlink() or any(into.iterdir())):
        raise RestoreRefused(reason=f"{into} is there and is no empty folder")


def extract_files(decoded: DecodedSnapshot, into: Path, choice: RestoreFilter) -> tuple[Skipped, ...]:
    """Put all files, with their whole metadata, and the snapshot metadata below `into`; give what was skipped.

    What the backup skipped is among it, as far as `choice` has it in scope.
    """
    contents = read_contents(decoded)
    with _hold_folder(into) as held, FileWriter(bytes(held), tuple(map(os.fsencode, decoded.stages))) as writer:
        skipped = tuple(_write_all(writer, contents))
        for stage in (folder / decoded.source.entry.stage for folder in decoded.folders):
            if stage.is_dir():  # a shard without dumps has no metadata folder
                shutil.copytree(stage, held / decoded.source.entry.stage, dirs_exist_ok=True)
    log.info(
        "extracted %s of snapshot %s into %s, skipped %d", format_count(sum(1 for _ in contents.manifest()), "file"),
        contents.snapshot, into, len(skipped),
    )  # fmt: skip
    gaps = select_backup_skips(contents.skipped, choice, contents.contents.machine.parts)
    return (*skipped, *map(name_backup_skip, gaps))


@contextmanager
def _hold_folder(into: Path) -> Iterator[Path]:
    """Make the folder, and give a path to it that nobody can redirect. Raises RestoreRefused, AccessRefused."""
    private_folder(into)
    descriptor = os.open(into, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077 or os.listdir(descriptor):
            raise RestoreRefused(reason=f"another folder took the place of {into}")
        yield Path(os.fsdecode(descriptor_path(descriptor)))
    finally:
        os.close(descriptor)


def _write_all(writer: FileWriter, contents: SnapshotContents) -> Iterator[Skipped]:
    """Write every file: further names of one as links to it, the times of folders when all is there."""
    groups = {path: group for group in contents.contents.hard_links for path in group}
    first: dict[tuple[bytes, ...], bytes] = {}
    times = []
    for listed in writer.prepare_ahead(contents.manifest(), lambda entry: entry):
        stored = contents.changed_while_read.get(listed.path)
        entry = describe_stored(listed, stored, has_one_inode=contents.has_one_inode) if stored else listed
        group = groups.get(entry.path, (entry.path,))
        partner = first.setdefault(group, entry.path)
        yield from writer.write(entry) if partner == entry.path else writer.link(entry, partner)
        if entry.kind == "dir" and entry.mtime_ns is not None:
            times.append((entry.path, entry.mtime_ns))
    yield from writer.finish_folders()
    for path, mtime_ns in times:
        yield from writer.set_folder_time(path, mtime_ns)

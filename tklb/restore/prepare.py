"""What a plan of a restore is made from: a snapshot, decoded into a private folder, and this machine as it is."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tklb.base.fs import fresh_folder, run_lock
from tklb.config.paths import ROOT
from tklb.diff.accounts.homonyms import GRANT_FOLDERS
from tklb.diff.at_jobs import AT_JOBS
from tklb.errors import TargetDamaged
from tklb.host.accounts import read_accounts
from tklb.host.apt.finish import find_faults
from tklb.host.apt.offers import find_offers
from tklb.host.apt.source_files import read_source_files
from tklb.host.dpkg import list_absent_holds, list_installed, list_unconfigured, read_excluded_paths
from tklb.host.files.live_files import LiveFiles
from tklb.host.mounts import find_all_paths, read_mounts
from tklb.host.package_relations import read_relations
from tklb.host.registries.inventory import read_registries
from tklb.lazy_dataclass import dataclass
from tklb.model.files import FileEntry
from tklb.profile.detect import detect_profile
from tklb.profile.folder import Profile, load_profile
from tklb.restore.decode import decode
from tklb.restore.dumps import FoundDumps, ask_servers, find_dumps, place_copies
from tklb.restore.plan.files.boot_settings import BOOT_FOLDERS
from tklb.restore.plan.inputs import CurrentMachine, OwnState, PackageState, SnapshotContents
from tklb.restore.remainder import describe_interruption
from tklb.restore.remake import read_facts
from tklb.restore.select import select_snapshot
from tklb.restore.settings.trial_journal import describe_trial
from tklb.restore.source import SnapshotSource
from tklb.session import TargetSession
from tklb.snapshot import metadata
from tklb.snapshot.machine import this_machine
from tklb.storage.local import list_places

_LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class DecodedSnapshot:
    """A snapshot in private folders of this machine.

    `folders` hold the files, one folder for each shard; `metadata` is the folder of its metadata, in the first of them;
    `copies` holds the copies of SQLite databases, each at the path of its database.
    """

    source: SnapshotSource
    folders: tuple[Path, ...]
    metadata: Path
    copies: Path

    @property
    def stages(self) -> tuple[Path, ...]:
        """All folders that have contents of files."""
        return (*self.folders, self.copies)


@contextmanager
def open_snapshot(session: TargetSession, wanted: str, *, is_checked: bool) -> Iterator[DecodedSnapshot]:
    """Select, download and decode a snapshot, with the lock of a run held; the block's end removes the decoded files.

    Raises TargetDamaged for metadata that was not sealed, unless it need not be checked: a plan made of it could leave
    out or delete anything.
    """
    paths = session.paths
    with run_lock(paths.lock), fresh_folder(paths.state / "restore") as work:
        source = select_snapshot(session, wanted)
        folders = decode(session, source, work)
        stage = folders[0] / source.entry.stage
        if is_checked:
            _check_metadata(source, stage)
        yield DecodedSnapshot(source, folders, stage, place_copies(work, folders, stage))


def _check_metadata(source: SnapshotSource, stage: Path) -> None:
    if metadata.digest(stage) != source.entry.content_digest:
        reason = f"the metadata of {source.entry.snapshot} is not what was sealed; --into DIR decodes its files"
        raise TargetDamaged(address=source.backend.address, reason=reason)


def list_own_places(session: TargetSession) -> tuple[bytes, ...]:
    """List what no restore may touch: the state of tklb, its targets on this machine, and the key file in use."""
    mounts = read_mounts()
    key = [os.path.abspath(session.access.key)] if session.access.key and str(session.access.key) != "-" else []
    named = (*session.paths.own, *map(os.fsencode, key))
    targets = {session.config.target, session.configured_target}
    places = (path for address in targets for path in list_places(address, mounts))
    return tuple(sorted({*places, *(path for folder in named for path in find_all_paths(folder, mounts))}))


def read_contents(decoded: DecodedSnapshot, dumps: FoundDumps | None = None) -> SnapshotContents:
    """Read the metadata of a decoded snapshot. Raises TargetDamaged where it is not whole."""
    dumps = dumps or FoundDumps()
    profile = load_profile(decoded.metadata / metadata.PROFILE)
    return SnapshotContents(
        snapshot=decoded.source.entry.snapshot,
        contents=metadata.read(decoded.metadata),
        manifest=lambda: metadata.read_manifest(decoded.metadata),
        changed_while_read=dict(decoded.source.entry.changed_while_read),
        has_one_inode=decoded.source.entry.has_one_inode,
        at_jobs=_read_small_files(decoded.folders, (AT_JOBS,)),
        boot_settings=_read_small_files(decoded.folders, BOOT_FOLDERS),
        grants=_read_small_files(decoded.folders, GRANT_FOLDERS),
        base=_read_install_state(profile),
        servers=dumps.servers,
        broken=dumps.broken,
        skipped=decoded.source.entry.skipped,
        left_out=frozenset(item.item for item in decoded.source.entry.skipped),
        profile_rules=profile.rules,
    )


def read_dumps(decoded: DecodedSnapshot) -> FoundDumps:
    """Find and check the database dumps of a decoded snapshot. Raises DatabaseFailed."""
    return find_dumps(decoded.folders, decoded.source.entry.stage)


def read_machine(
    session: TargetSession,
    files: LiveFiles,
    dumps: FoundDumps,
    contents: SnapshotContents,
    own: OwnState | None = None,
) -> CurrentMachine:
    """Ask this machine for everything that a plan compares with the contents of the snapshot."""
    files.forget()  # scripts of packages may have replaced folders since the last plan
    carried = (source.path for source in contents.contents.sources)
    commands, services = read_facts(session.paths.remainder)
    installed = list_installed(ROOT)
    answers = ask_servers(session.config.databases, dumps, contents.skipped)
    return CurrentMachine(
        machine=this_machine("", detect_profile(ROOT, session.paths.profiles).id, (), frozenset()),
        accounts=read_accounts(ROOT),
        packages=installed,
        registries=read_registries(ROOT, installed),
        files=files,
        sources=read_source_files(ROOT, carried),
        offers=answers.features,
        rows_here=answers.rows,
        remake=commands,
        services=services,
        package_state=PackageState(
            relations=read_relations(ROOT),
            unfinished=list_unconfigured(ROOT),
            faults=(
                *describe_interruption(session.paths.remainder),
                *describe_trial(session.paths.trial),
                *find_faults(ROOT),
            ),
            absent_holds=list_absent_holds(ROOT),
            excluded=read_excluded_paths(ROOT),
            find_offers=lambda labels: find_offers(ROOT, labels),
        ),
        own=own,
    )


def _read_small_files(folders: Iterable[Path], places: tuple[bytes, ...]) -> dict[bytes, bytes]:
    """Read the stored files of some folders, or some files, by path. Follows no link."""
    found = {}
    for folder in folders:
        with LiveFiles(os.fsencode(folder)) as stage:
            inside = [place + b"/" + name for place in places for name in stage.names(place)]
            found.update({path: stage.head(path, _LARGEST) for path in (*places, *inside) if _is_file(stage, path)})
    return found


def _is_file(stage: LiveFiles, path: bytes) -> bool:
    entry = stage.entry(path)
    return entry is not None and entry.kind == "file" and (entry.size or 0) < _LARGEST


def _read_install_state(profile: Profile) -> Callable[[bytes], FileEntry | None] | None:
    """Give a look-up in the profile of the backed-up machine; None where it was derived on that machine itself."""
    if profile.recipe.derived:
        return None

    @cache
    def read_entries() -> dict[bytes, FileEntry]:
        return {entry.path: entry for entry in profile.entries()}

    return lambda path: read_entries().get(path)

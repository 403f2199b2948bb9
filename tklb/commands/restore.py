"""The way back, told: find the snapshot, decode it privately, plan, let it be shown and confirmed, apply, take over.

Nothing of this machine is touched before `apply`.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from tklb.base.fs import fresh_folder, private_folder, run_lock, write_atomic
from tklb.config.paths import ROOT, Paths
from tklb.crypto.key_file import read_fingerprint
from tklb.crypto.secret import fingerprint, write_older, write_secret
from tklb.databases.load import DatabaseLoader
from tklb.databases.servers import find_server
from tklb.diff.rules import parse_override
from tklb.errors import RestoreRefused, TargetDamaged
from tklb.host.accounts import read_accounts
from tklb.host.apt_sources import read_source_files
from tklb.host.dpkg import list_installed
from tklb.host.files.live_files import LiveFiles
from tklb.host.files.write_entry import FileWriter
from tklb.host.release import read_os_release
from tklb.model.files import FileEntry
from tklb.model.plan import Plan, Role
from tklb.model.report import Report, Skipped
from tklb.model.snapshot import LedgerEntry
from tklb.profile.adopt import adopt_profile
from tklb.profile.detect import detect_profile
from tklb.profile.folder import load_profile
from tklb.restore.apply import Executor, apply_plan
from tklb.restore.decode import decode
from tklb.restore.dumps import FoundDumps, find_dumps, list_server_features, place_copies
from tklb.restore.open import SnapshotSource
from tklb.restore.plan.filter import RestoreFilter, parse_rename
from tklb.restore.plan.plan import CurrentMachine, SnapshotContents, make_plan
from tklb.restore.select import select_snapshot
from tklb.session import TargetSession
from tklb.snapshot import metadata
from tklb.snapshot.kept import keep_metadata
from tklb.snapshot.machine import this_machine


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    snapshot: str = "latest"
    role: Role = Role.REPLACEMENT
    skip: frozenset[str] = frozenset()
    limits: tuple[str, ...] = ()
    renames: tuple[str, ...] = ()  # of databases: OLD=NEW
    remove_packages: bool = False


@dataclass(frozen=True, slots=True)
class PlannedRestore:
    """A restore that is planned and not yet done. `apply` carries the plan out.

    `record` is the snapshot: its sequence and age tell whether the target was set back. `takes_over`: this machine is
    still to become the one that continues the chain, even where the plan is empty.
    """

    record: LedgerEntry
    plan: Plan
    takes_over: bool
    apply: Callable[[], Report]


@contextmanager
def plan_restore(session: TargetSession, request: RestoreRequest) -> Iterator[PlannedRestore]:
    """Decode the snapshot and plan its restore; the decoded files are gone when the block ends."""
    paths = session.paths
    choice = _choice(paths, request)
    with ExitStack() as held:
        held.enter_context(run_lock(paths.lock))
        work = held.enter_context(fresh_folder(paths.state / "restore"))
        source = select_snapshot(session, request.snapshot)
        folders = decode(session, source, work)
        records = folders[0] / source.record.stage
        _check_records(source, records)
        copies = place_copies(work, folders, records)
        dumps = find_dumps(folders, source.record.stage)
        saved = replace(_saved(source, records), servers=dumps.servers, broken=dumps.broken)
        files = held.enter_context(LiveFiles(ROOT))

        def planned() -> Plan:
            made = make_plan(saved, _here(session, files, dumps), choice)
            return replace(made, warnings=(*(f"the ledger: {problem}" for problem in source.problems), *made.warnings))

        def carried_out() -> Report:
            loader = DatabaseLoader(lambda engine: find_server(engine, session.config.databases), dumps.folders)
            report = apply_plan(plan, saved, Executor((*folders, copies), loader, session.progress), planned)
            if choice.wants_part("files"):
                _add_local_files(paths, (path for path in saved.contents.local_files if choice.allows("path", path)))
            if takes_over:
                take_over(paths, source, records)
            return report

        plan = planned()
        takes_over = request.role is Role.REPLACEMENT and choice.is_whole and not _continues(paths, source)
        yield PlannedRestore(source.record, plan, takes_over, carried_out)


def _check_records(source: SnapshotSource, records: Path) -> None:
    """A plan made of other records than those that were sealed could leave out or delete anything."""
    if metadata.digest(records) != source.record.content_digest:
        reason = f"the records of {source.record.snapshot} are not those that were sealed; --into DIR decodes its files"
        raise TargetDamaged(address=source.target.address, reason=reason)


def _here(session: TargetSession, files: LiveFiles, dumps: FoundDumps) -> CurrentMachine:
    return CurrentMachine(
        machine=this_machine("", detect_profile(ROOT, session.paths.profiles).id, (), frozenset()),
        accounts=read_accounts(ROOT),
        packages=list_installed(ROOT),
        files=files,
        sources=read_source_files(ROOT),
        offers=list_server_features(session.config.databases, dumps),
    )


def _choice(paths: Paths, request: RestoreRequest) -> RestoreFilter:
    return RestoreFilter(
        role=request.role,
        skip=request.skip,
        limit=tuple(parse_override(item) for item in request.limits),
        remove_packages=request.remove_packages,
        own=paths.own,
        renames=tuple(map(parse_rename, request.renames)),
    )


def _add_local_files(paths: Paths, brought: Iterable[bytes]) -> None:
    """Keep `brought` in the delta, beside what an earlier restore brought: this one did not take that away."""
    known = metadata.read_paths(paths.local_files) if paths.local_files.exists() else ()
    write_atomic(paths.local_files, metadata.path_lines(sorted({*known, *brought})))


def extract(session: TargetSession, request: RestoreRequest, into: Path) -> Report:
    """Only decode: put the files of a snapshot, with their whole metadata, below `into`; our records lie among them.

    Raises RestoreRefused where `into` is there and not empty.
    """
    if os.path.lexists(into) and (not into.is_dir() or into.is_symlink() or any(into.iterdir())):
        raise RestoreRefused(reason=f"{into} is there and is no empty folder")
    with run_lock(session.paths.lock), fresh_folder(session.paths.state / "restore") as work:
        source = select_snapshot(session, request.snapshot)
        folders = decode(session, source, work)
        records = folders[0] / source.record.stage
        copies = place_copies(work, folders, records)
        private_folder(into)
        with FileWriter(os.fsencode(into), tuple(map(os.fsencode, (*folders, copies)))) as applier:
            skipped = tuple(_put_all(applier, _saved(source, records)))
        for kept in (folder / source.record.stage for folder in folders):
            if kept.is_dir():  # a shard without dumps has nothing of ours
                shutil.copytree(kept, into / source.record.stage, dirs_exist_ok=True)
    return Report(done=(source.record.snapshot,), skipped=skipped)


def _put_all(applier: FileWriter, saved: SnapshotContents) -> Iterator[Skipped]:
    """Put every file in place: further names of one as links to it, the times of folders when all is there."""
    groups = {path: group for group in saved.contents.hard_links for path in group}
    first: dict[tuple[bytes, ...], bytes] = {}
    times = []
    for listed in applier.prepare_ahead(saved.manifest(), lambda entry: entry):
        amended = saved.amended.get(listed.path)
        entry = listed._replace(sha256=amended, size=None) if amended else listed
        group = groups.get(entry.path, (entry.path,))
        partner = first.setdefault(group, entry.path)
        yield from applier.write(entry) if partner == entry.path else applier.link(entry, partner)
        if entry.kind == "dir" and entry.mtime_ns is not None:
            times.append((entry.path, entry.mtime_ns))
    for path, mtime_ns in times:
        yield from applier.set_folder_time(path, mtime_ns)


def take_over(paths: Paths, source: SnapshotSource, records: Path) -> None:
    """Make this machine the one that continues the chain: its profile, last records, key, and at last its host id.

    On another release the install state is another: there this machine's own profile is used.
    """
    is_same = source.record.release == read_os_release(ROOT)
    adopt_profile(paths, records / metadata.PROFILE if is_same else detect_profile(ROOT, paths.profiles).folder)
    keep_metadata(paths, records)
    for older in source.older:
        write_older(paths.older_secrets, older)
    if read_fingerprint(source.wrapped) == fingerprint(source.current):
        write_atomic(paths.key_file, source.wrapped.encode())
    write_secret(paths.secret, source.current)
    write_atomic(paths.host, f"{source.record.host}\n".encode())


def _continues(paths: Paths, source: SnapshotSource) -> bool:
    return paths.host.exists() and paths.host.read_text("ascii").strip() == source.record.host


def _saved(source: SnapshotSource, records: Path) -> SnapshotContents:
    return SnapshotContents(
        snapshot=source.record.snapshot,
        contents=metadata.read(records),
        manifest=lambda: metadata.read_manifest(records),
        amended=dict(source.record.amended),
        base=_install_state(records / metadata.PROFILE),
    )


def _install_state(folder: Path) -> Callable[[bytes], FileEntry | None] | None:
    """What the profile of the backed-up machine had at a path; None where it was derived on that machine itself."""
    profile = load_profile(folder)
    if profile.recipe.derived:
        return None

    @cache
    def entries() -> dict[bytes, FileEntry]:
        return {entry.path: entry for entry in profile.entries()}

    return lambda path: entries().get(path)

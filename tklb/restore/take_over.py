"""Make this machine the one that continues the chain of the backed-up machine."""

import contextlib
import logging
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from tklb.base.fs import write_atomic
from tklb.config.paths import ROOT, Paths
from tklb.crypto.key_file import kind_of_key_file, read_fingerprint, read_key_text
from tklb.crypto.protection import note_file
from tklb.crypto.secret import fingerprint, read_secret, write_older, write_secret
from tklb.errors import KeyUnusable, TklbError
from tklb.host.release import read_os_release
from tklb.ledger.installation import read_installation
from tklb.ledger.takeover import take_lead
from tklb.model.plan import Role
from tklb.profile.adopt import adopt_profile
from tklb.profile.detect import detect_profile
from tklb.restore.prepare import DecodedSnapshot
from tklb.restore.source import SnapshotSource
from tklb.session import TargetSession
from tklb.snapshot import metadata
from tklb.snapshot.kept import keep_metadata
from tklb.snapshot.key_history import adopt_history, read_history

log = logging.getLogger(__name__)


def continues_chain(paths: Paths, source: SnapshotSource) -> bool:
    """Whether this machine has the host id of the backed-up one already."""
    return paths.host.exists() and paths.host.read_text("ascii").strip() == source.entry.host


def warn_of_no_takeover(paths: Paths, role: Role, *, is_whole: bool) -> tuple[str, ...]:
    """Say that a restore of a part gives a fresh machine no key and no host id: it can take no backup afterwards."""
    if is_whole or role is not Role.REPLACEMENT or paths.host.exists():
        return ()
    lacking = "a part of a snapshot brings no key and no identity: this machine cannot back up afterwards"
    way_out = "repeat the restore without --skip and --limit, or run `tklb init --force` with a target of its own"
    return (f"{lacking}; {way_out}",)


def take_over(session: TargetSession, decoded: DecodedSnapshot) -> tuple[str, ...]:
    """Adopt the profile, the snapshot metadata, the keys and the host id, and record that at the target.

    The key file that the restore was given is a copy of the key to remember. Another release has another install state:
    there this machine's own profile is used. Gives a warning where the target does not take the record.
    """
    paths, source = session.paths, decoded.source
    is_same = source.entry.release == read_os_release(ROOT)
    shipped = decoded.metadata / metadata.PROFILE
    adopt_profile(paths, shipped if is_same else detect_profile(ROOT, paths.profiles).folder)
    history = read_history(decoded.metadata)
    keep_metadata(paths, decoded.metadata)
    for older in source.older:
        write_older(paths.older_secrets, older)
    if read_fingerprint(source.wrapped) == fingerprint(source.current):
        write_atomic(paths.key_file, source.wrapped.encode())
    write_secret(paths.secret, source.current)
    adopt_history(paths, history, fingerprint(source.current))
    _note_used_key(paths, session.access.key)
    write_atomic(paths.host, f"{source.entry.host}\n".encode())
    log.info(
        "took over host id %s with key %s: the next backup continues after entry %d",
        source.entry.host, fingerprint(source.current), source.entry.sequence,
    )  # fmt: skip
    return _tell_target(session, source)


def _tell_target(session: TargetSession, source: SnapshotSource) -> tuple[str, ...]:
    """Record at the target that this machine continues; give a warning where the target does not take that."""
    paths = session.paths
    installation = read_installation(paths.installation, os.urandom)
    try:
        take_lead(source.backend, source.current, paths.ledger, installation, session.clock())
    except TklbError as exc:
        log.warning("the takeover is not recorded at %s: %s", source.backend.address, exc)
        return (
            (
                f"{source.backend.address} does not know that this machine continues its backups ({exc}): run"
                " `tklb takeover` before the next one"
            ),
        )
    return ()


def _note_used_key(paths: Paths, file: Path | None) -> None:
    """Note a key file as a copy of this machine's key, if it is one."""
    if file is None or not file.is_file():
        return
    with contextlib.suppress(OSError, KeyUnusable):  # it was there a moment ago; the list is only a reminder
        text, name = read_key_text(file), fingerprint(read_secret(paths.secret))
        written = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        if read_fingerprint(text) == name:
            note_file(paths, file, name, kind_of_key_file(text), written)


def keep_local_files(paths: Paths, restored: Iterable[bytes]) -> None:
    """Keep files of packages that no source offers in the delta, beside those of an earlier restore."""
    known = metadata.read_paths(paths.local_files) if paths.local_files.exists() else ()
    write_atomic(paths.local_files, metadata.path_lines(sorted({*known, *restored})))

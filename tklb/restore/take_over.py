"""Make this machine the one that continues the chain of the backed-up machine."""

import logging
from collections.abc import Iterable

from tklb.base.fs import write_atomic
from tklb.config.paths import ROOT, Paths
from tklb.crypto.key_file import read_fingerprint
from tklb.crypto.secret import fingerprint, write_older, write_secret
from tklb.host.release import read_os_release
from tklb.profile.adopt import adopt_profile
from tklb.profile.detect import detect_profile
from tklb.restore.prepare import DecodedSnapshot
from tklb.restore.source import SnapshotSource
from tklb.snapshot import metadata
from tklb.snapshot.kept import keep_metadata

log = logging.getLogger(__name__)


def continues_chain(paths: Paths, source: SnapshotSource) -> bool:
    """Whether this machine has the host id of the backed-up one already."""
    return paths.host.exists() and paths.host.read_text("ascii").strip() == source.entry.host


def take_over(paths: Paths, decoded: DecodedSnapshot) -> None:
    """Adopt the profile, the snapshot metadata, the keys and, last, the host id.

    Another release has another install state: there this machine's own profile is used.
    """
    source = decoded.source
    is_same = source.entry.release == read_os_release(ROOT)
    shipped = decoded.metadata / metadata.PROFILE
    adopt_profile(paths, shipped if is_same else detect_profile(ROOT, paths.profiles).folder)
    keep_metadata(paths, decoded.metadata)
    for older in source.older:
        write_older(paths.older_secrets, older)
    if read_fingerprint(source.wrapped) == fingerprint(source.current):
        write_atomic(paths.key_file, source.wrapped.encode())
    write_secret(paths.secret, source.current)
    write_atomic(paths.host, f"{source.entry.host}\n".encode())
    log.info(
        "took over host id %s with key %s: the next backup continues after entry %d",
        source.entry.host, fingerprint(source.current), source.entry.sequence,
    )  # fmt: skip


def keep_local_files(paths: Paths, restored: Iterable[bytes]) -> None:
    """Keep files of packages that no source offers in the delta, beside those of an earlier restore."""
    known = metadata.read_paths(paths.local_files) if paths.local_files.exists() else ()
    write_atomic(paths.local_files, metadata.path_lines(sorted({*known, *restored})))

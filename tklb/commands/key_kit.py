"""The recovery sheet of this machine: what is needed for it, gathered; two files, written."""

import socket
from dataclasses import dataclass, replace
from pathlib import Path

from tklb.backup.target_key import has_passphrase
from tklb.commands.key import Protection, key_text, note_file
from tklb.config.parse import read_config
from tklb.config.paths import Paths
from tklb.crypto.key_copies import KeyCopy
from tklb.crypto.key_file import KeyKind, write_new
from tklb.crypto.recovery_sheet import RecoverySheet
from tklb.crypto.recovery_sheet_print import sheet_pdf, sheet_text
from tklb.crypto.secret import fingerprint, read_secret
from tklb.errors import UsageWrong
from tklb.model.callbacks import Clock
from tklb.storage.url import parse_url

ENDINGS = (".txt", ".pdf")


@dataclass(frozen=True, slots=True)
class Kit:
    """The files that were written, and the copy of the key that they are."""

    files: tuple[Path, ...]
    copy: KeyCopy


def kit_files(file: Path) -> tuple[Path, ...]:
    """The names of the sheet's files; FILE may be said with one of the endings or without."""
    stem = str(file)
    for ending in ENDINGS:
        stem = stem.removesuffix(ending)
    return tuple(Path(stem + ending) for ending in ENDINGS)


def write_kit(paths: Paths, clock: Clock, file: Path, protection: Protection | None) -> Kit:
    """Write the sheet. Without `protection` it has the key file of this machine, which must be there then.

    Raises UsageWrong, NotInitialised, KeyUnusable; nothing is left of a sheet that could not be finished.
    """
    secret = read_secret(paths.secret)
    config = read_config(paths)
    address = parse_url(config.target)
    if protection is not None:
        key, kind = key_text(secret, protection, Path()), protection.kind
    elif has_passphrase(paths, secret):
        key, kind = paths.key_file.read_text("utf-8"), KeyKind.PASSPHRASE
    else:
        raise UsageWrong(reason="this key has no passphrase: say what shall protect the sheet's")
    sheet = RecoverySheet(
        hostname=socket.gethostname(),
        made=clock(),
        fingerprint=fingerprint(secret),
        has_passphrase=kind is KeyKind.PASSPHRASE,
        key=key,
        place=replace(address, endpoint=address.endpoint or config.s3.endpoint),
        region=config.s3.region,
    )
    contents = (sheet_text(sheet).encode("utf-8", "backslashreplace"), sheet_pdf(sheet))
    files = kit_files(file)
    written: list[Path] = []
    try:
        for path, content in zip(files, contents, strict=True):
            write_new(path, content)
            written.append(path)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return Kit(files, note_file(paths, clock, files[-1], secret, kind))

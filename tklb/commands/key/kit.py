"""Write the recovery sheet of this machine: collect what it needs, write two files."""

import logging
import socket
from dataclasses import replace
from pathlib import Path

from tklb.backup.target_key import has_passphrase
from tklb.config.paths import Paths
from tklb.crypto.key_copies import KeyCopy
from tklb.crypto.key_file import KeyKind, write_all_new
from tklb.crypto.protection import Protection, format_protected_key, note_file
from tklb.crypto.recovery_sheet import RecoverySheet
from tklb.crypto.secret import fingerprint, read_secret
from tklb.errors import UsageWrong
from tklb.lazy_dataclass import dataclass
from tklb.model.callbacks import Clock
from tklb.model.secret import Secret
from tklb.session import TargetAccess, open_target_session
from tklb.storage.url import parse_url

ENDINGS = (".txt", ".pdf")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kit:
    """The files that were written, and the copy of the key that they are."""

    files: tuple[Path, ...]
    copy: KeyCopy


def kit_files(file: Path) -> tuple[Path, ...]:
    """Give the names of the two files. FILE can have one of the endings, or none."""
    stem = str(file)
    for ending in ENDINGS:
        stem = stem.removesuffix(ending)
    return tuple(Path(stem + ending) for ending in ENDINGS)


def needs_protection(paths: Paths) -> bool:
    """Whether `write_kit` needs a protection, because the key of this machine has no passphrase. Raises KeyUnusable."""
    return not has_passphrase(paths, read_secret(paths.secret))


def write_kit(paths: Paths, clock: Clock, file: Path, protection: Protection | None) -> Kit:
    """Write the sheet. Without `protection` it has the key file of this machine, which must exist then.

    Raises UsageWrong, NotInitialised, KeyUnusable; nothing is left of a sheet that could not be finished.
    """
    from tklb.crypto.recovery_sheet_print import sheet_pdf, sheet_text  # a quarter of a second: fonts and images

    secret = read_secret(paths.secret)
    config = open_target_session(paths, TargetAccess(), clock).config
    address = parse_url(config.target)
    key, kind = _choose_key(paths, secret, protection)
    sheet = RecoverySheet(
        hostname=socket.gethostname(),
        made=clock(),
        fingerprint=fingerprint(secret),
        has_passphrase=kind is KeyKind.PASSPHRASE,
        key=key,
        place=replace(address, endpoint=address.endpoint or config.s3.endpoint),
        region=config.s3.region,
    )
    files = kit_files(file)
    contents = (sheet_text(sheet).encode("utf-8", "backslashreplace"), sheet_pdf(sheet))
    write_all_new(tuple(zip(files, contents, strict=True)))
    log.info("wrote the recovery sheet: %s", " ".join(map(str, files)))
    return Kit(files, note_file(paths, files[-1], fingerprint(secret), kind, clock()))


def _choose_key(paths: Paths, secret: Secret, protection: Protection | None) -> tuple[str, KeyKind]:
    """Give the text of the key file on the sheet, and its kind. Raises UsageWrong."""
    if protection is not None:
        return format_protected_key(secret, protection, Path()), protection.kind
    if not has_passphrase(paths, secret):
        raise UsageWrong(reason="this key has no passphrase: say how to protect the one on the sheet")
    return paths.key_file.read_text("utf-8"), KeyKind.PASSPHRASE

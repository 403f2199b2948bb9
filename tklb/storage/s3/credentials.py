"""The files that hold the keys of an S3 service. tklb refuses those that others can read.

Takes paths; gives the file to use. Touches nothing but their status.
"""

import os
import stat
from pathlib import Path

from tklb.base.fs import is_plain
from tklb.config.paths import Paths
from tklb.config.schema import S3Config
from tklb.errors import AccessRefused

_READ_OR_WRITTEN, _WRITTEN = 0o077, 0o022


def own_credentials(config: S3Config) -> Path | None:
    """The configured file, or that of tklb if there is one. Raises AccessRefused for one that others can read."""
    configured = Path(config.credentials_file) if config.credentials_file else None
    path = configured or Paths().config / "credentials"
    if configured is None and not os.path.lexists(path):
        return None
    _check(path, _READ_OR_WRITTEN)
    return path


def check_boto_files(credentials: str | None, config: str) -> None:
    """Raise AccessRefused for files of AWS that others can read, or for a configuration that others can write."""
    for name, forbidden in ((credentials, _READ_OR_WRITTEN), (config, _WRITTEN)):
        if name and os.path.exists(path := os.path.expanduser(name)):
            _check(Path(os.path.realpath(path)), forbidden)


def _check(path: Path, forbidden: int) -> None:
    try:
        status = os.lstat(path)
    except OSError as exc:
        raise AccessRefused(address=str(path), reason=exc.strerror) from exc
    if not is_plain(status):
        raise AccessRefused(address=str(path), reason="it is no plain file")
    if status.st_uid not in (0, os.geteuid()):
        raise AccessRefused(address=str(path), reason=f"it belongs to uid {status.st_uid}, not to root")
    if status.st_mode & forbidden:
        reason = f"mode {stat.S_IMODE(status.st_mode):04o} lets others use it: `chmod 600 {path}`"
        raise AccessRefused(address=str(path), reason=reason)

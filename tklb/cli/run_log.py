"""The log of a run: a private file under /var/log/tklb with every line, at any verbosity. The newest files are kept."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import tklb
from tklb.base.fs import PRIVATE_FILE, private_folder
from tklb.config.paths import Paths
from tklb.errors import TklbError
from tklb.model.snapshot import snapshot_id

KEPT = 60
_ROOT = "tklb"

log = logging.getLogger(__name__)


@contextlib.contextmanager
def run_log(paths: Paths, command: str, moment: datetime, wanted: bool = True) -> Iterator[None]:
    """Write every log line to a file while the block runs, and how the run ended."""
    if not wanted:
        yield
        return
    folder = private_folder(paths.log)
    handler = _LogFile(folder / f"{snapshot_id(moment)}-{command}-{os.getpid()}.log")
    root = logging.getLogger(_ROOT)
    root.addHandler(handler)
    try:
        log.info("tklb %s %s", tklb.__version__, command)
        yield
        log.info("ended")
    except TklbError as exc:
        log.info("failed: %s: %s", exc.name, exc)
        raise
    except KeyboardInterrupt:
        log.info("interrupted")
        raise
    except BaseException:
        log.exception("failed")
        raise
    finally:
        root.removeHandler(handler)
        handler.close()
    for old in sorted(folder.glob("*.log"))[:-KEPT]:
        old.unlink(missing_ok=True)


class _LogFile(logging.Handler):
    """Writes line by line. Where it cannot write, as on a full disk, it warns once and the run continues."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._path = path
        self._descriptor = -1
        self._is_complete = True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._descriptor < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
                self._descriptor = os.open(self._path, flags, PRIVATE_FILE)
            os.write(self._descriptor, self.format(record).encode("utf-8", "backslashreplace") + b"\n")
        except OSError as exc:
            if self._is_complete:
                sys.stderr.write(f"warning: {self._path} is not the whole log of this run: {exc.strerror}\n")
            self._is_complete = False

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        super().close()

"""One log a run under /var/log/tklb, private, the oldest removed."""

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


@contextlib.contextmanager
def run_log(paths: Paths, command: str, moment: datetime, wanted: bool = True) -> Iterator[None]:
    """Write all that is said by tklb's own parts to a file while the block runs; its failure too."""
    if not wanted:
        yield
        return
    folder = private_folder(paths.log)
    handler = _RunLog(folder / f"{snapshot_id(moment)}-{command}-{os.getpid()}.log")
    root = logging.getLogger("tklb")
    root.addHandler(handler)
    try:
        root.info("tklb %s %s", tklb.__version__, command)
        yield
        root.info("ended")
    except TklbError as exc:
        root.info("failed: %s: %s", exc.name, exc)
        raise
    except BaseException:
        root.exception("failed")
        raise
    finally:
        root.removeHandler(handler)
        handler.close()
    for old in sorted(folder.glob("*.log"))[:-KEPT]:
        old.unlink(missing_ok=True)


class _RunLog(logging.Handler):
    """Writes line by line. A log that cannot be written, on a full disk, is said to be so once, and stops no run."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._path = path
        self._descriptor = -1
        self._is_whole = True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._descriptor < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
                self._descriptor = os.open(self._path, flags, PRIVATE_FILE)
            os.write(self._descriptor, self.format(record).encode("utf-8", "backslashreplace") + b"\n")
        except OSError as exc:
            if self._is_whole:
                sys.stderr.write(f"warning: {self._path} is not the whole log of this run: {exc.strerror}\n")
            self._is_whole = False

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        super().close()

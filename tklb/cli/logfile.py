"""One log a run under /var/log/tklb, private, the oldest removed."""

import contextlib
import logging
import os
from collections.abc import Iterator
from datetime import datetime

import tklb
from tklb.config import Paths
from tklb.durable import PRIVATE_FILE, private_folder
from tklb.errors import TklbError
from tklb.model import snapshot_id

KEPT = 60


@contextlib.contextmanager
def run_log(paths: Paths, command: str, moment: datetime, wanted: bool = True) -> Iterator[None]:
    """Write all that is said by tklb's own parts to a file while the block runs; its failure too."""
    if not wanted:
        yield
        return
    folder = private_folder(paths.log)
    name = folder / f"{snapshot_id(moment)}-{command}-{os.getpid()}.log"
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, PRIVATE_FILE)
    with open(descriptor, "a", encoding="utf-8", errors="backslashreplace") as stream:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
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
    for old in sorted(folder.glob("*.log"))[:-KEPT]:
        old.unlink(missing_ok=True)

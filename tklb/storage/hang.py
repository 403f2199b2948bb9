"""End a run whose target is a folder of this machine that hangs, as on a dead NFS or FUSE server.

Takes the configuration; touches nothing. A system call that waits for such a server cannot be interrupted, only its
process can be ended. A thread asks the folder now and then, and counts how long it takes to answer.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Event, Thread

from tklb.base.concurrency import Background
from tklb.config.schema import Config
from tklb.errors import TargetUnreachable
from tklb.storage.url import parse_url

LONGEST = 240.0  # seconds without an answer, whatever the configuration says
_PAUSE = 2.0  # seconds between two questions

End = Callable[[TargetUnreachable], object]


@contextlib.contextmanager
def watch_folder(config: Config, end: End) -> Iterator[None]:
    """Call `end` from a thread where the target is a folder that gives no answer for the stall timeout.

    `end` has to end the process: the thread of the caller may wait for ever.
    """
    stop, url = Event(), parse_url(config.target)
    if url.scheme == "file":
        seconds = min(float(config.patience), LONGEST)
        Thread(target=_watch, args=(Path(url.path), seconds, stop, end), daemon=True).start()
    try:
        yield
    finally:
        stop.set()


def _watch(folder: Path, seconds: float, stop: Event, end: End) -> None:
    while not stop.wait(_PAUSE):
        question = Background(partial(_ask, folder))
        question.wait(seconds)
        if not question.has_ended and not stop.is_set():
            end(TargetUnreachable(address=f"file://{folder}", reason=f"it hangs: no answer for {seconds:g} seconds"))
            return


def _ask(folder: Path) -> None:
    with contextlib.suppress(OSError):  # an answer too
        os.statvfs(folder)

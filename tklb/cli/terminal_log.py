"""Log lines on stderr: the stages of a run with -v, all lines with -vv."""

import logging
import sys

# The lines of these are skipped items and the failure. The command prints them itself.
_PRINTED_ANYWAY = ("tklb.cli.options", "tklb.cli.run_log")


def show_log(verbosity: int) -> None:
    """Show log lines on stderr: those of level INFO at 1, all from 2 on, none below 1."""
    root = logging.getLogger("tklb")
    root.setLevel(logging.DEBUG)
    if not root.handlers:
        root.addHandler(_terminal())
    root.handlers[0].setLevel({0: logging.CRITICAL, 1: logging.INFO}.get(max(verbosity, 0), logging.DEBUG))


def _terminal() -> logging.Handler:
    """Give a handler that wipes the line of progress before it writes."""
    handler = logging.StreamHandler()
    wipe = "\r\x1b[K" if sys.stderr.isatty() else ""
    handler.setFormatter(logging.Formatter(f"{wipe}%(message)s"))
    handler.addFilter(lambda record: record.name not in _PRINTED_ANYWAY)
    return handler

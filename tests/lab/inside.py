"""Call the working tree's Python inside a box, on the box's own Python.

Takes a box that has the tree bound (`binds=TREE_INSIDE`), a piece of source that sets `answer`, and values that JSON
can carry; gives the answer back. A box of another release needs tklb installed, for its compiled packages. Touches
what the source touches. Each call is a process of its own, forked from one that waits in the box: see `warm`.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.lab.box import Box
from tests.lab.warm import WarmPython

TREE = Path(__file__).parents[2]
TREE_INSIDE = {TREE: "/mnt/tree"}
_PRELUDE = """
import glob, importlib.util, os, runpy, sys
os.umask(0o077)
# Byte code of the tree is the host's Python's. Another one's came with tklb, which is the same; without it, what is
# compiled is kept outside, for a box is called again and again.
tree = ["/mnt/tree", "/opt/tklb/lib"]
if not os.path.exists(importlib.util.cache_from_source("/mnt/tree/tklb/__init__.py")):
    if os.path.exists("/opt/tklb/lib/tklb"):
        tree.reverse()
    else:
        sys.dont_write_bytecode, sys.pycache_prefix = False, "/run/bytecode"
# what is compiled is of one Python only: another one's came with tklb
sys.path[:0] = [*tree, *glob.glob("/mnt/tree/.venv/lib/python3.*/site-packages")]
runpy.run_path("/mnt/tree/tests/lab/forks.py")
"""
_COMMAND = ("/usr/bin/python3", "-IS", "-B", "-c", _PRELUDE)

_idle: dict[Path, list[WarmPython]] = defaultdict(list)  # by the folder of the box


def call(box: Box, source: str, *, timeout: float = 300, **values: object) -> Any:
    """Run `source` with `values` (a dict) at hand; raise AssertionError with the output where it fails."""
    python = _idle[box.folder].pop() if _idle[box.folder] else _start(box)
    try:
        done = python.run(source, timeout=timeout, **values)
    except BaseException:
        python.end()
        raise
    _idle[box.folder].append(python)
    if done.status:
        raise AssertionError(f"the source ended with {done.status}\n{done.stdout}\n{done.stderr}")
    return done.answer


def _start(box: Box) -> WarmPython:
    box.ending.callback(_end_all, box.folder)
    return WarmPython(_COMMAND, box.popen)


def _end_all(folder: Path) -> None:
    for python in _idle.pop(folder, ()):
        python.end()

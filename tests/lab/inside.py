"""Call the working tree's Python inside a box, on the box's own Python.

Takes a box that has the tree bound (`binds=TREE_INSIDE`), a piece of source that sets `answer`, and values that JSON
can carry; gives the answer back. A box of another release needs tklb installed, for its compiled packages. Touches
what the source touches.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from tests.lab.box import Box

TREE = Path(__file__).parents[2]
TREE_INSIDE = {TREE: "/mnt/tree"}
_PRELUDE = """
import glob, importlib.util, json, os, sys
os.umask(0o077)
# a box is called again and again: where the tree has no byte code for its Python, what is compiled is kept outside
if not os.path.exists(importlib.util.cache_from_source("/mnt/tree/tklb/__init__.py")):
    sys.dont_write_bytecode, sys.pycache_prefix = False, "/run/bytecode"
# what is compiled is of one Python only: another one's came with tklb
sys.path[:0] = ["/mnt/tree", "/opt/tklb/lib", *glob.glob("/mnt/tree/.venv/lib/python3.*/site-packages")]
source, values = json.load(sys.stdin)
space = {"values": values}
exec(compile(source, "inside", "exec"), space)
sys.stdout.write("\\n" + json.dumps(space.get("answer")))
"""


def call(box: Box, source: str, *, timeout: float = 300, **values: object) -> Any:
    """Run `source` with `values` (a dict) at hand; raise AssertionError with the output where it fails."""
    fed = json.dumps([textwrap.dedent(source), values])
    done = box.run(["/usr/bin/python3", "-IS", "-B", "-c", _PRELUDE], input=fed, timeout=timeout)
    return json.loads(done.stdout.rpartition("\n")[2])

"""Start a Python process of our own: with the interpreter of tklb, isolated, and with the libraries of tklb first.

Gives argument lists; touches only the launcher file that a caller names. It works from a checkout with a virtual
environment, and from /opt/tklb with Debian's python3 and one folder of libraries.
"""

import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tklb.base.fs import write_atomic

_START = "import sys; sys.path[:0] = {libraries!r}; from {module} import main; sys.exit(main(sys.argv[1:]))"
_LIBRARIES = ("tklb", "duplicity", "isal", "fasteners")


@cache
def _libraries() -> tuple[str, ...]:
    """The folders of the libraries that a child imports. It looks nowhere else but in the folders of Python itself."""
    origins = [spec.origin for name in _LIBRARIES if (spec := find_spec(name)) and spec.origin]
    return tuple(dict.fromkeys(str(Path(origin).parents[1]) for origin in origins))


def python_argv(module: str) -> list[str]:
    """The arguments that run `module`.main in a process of its own; those of the module follow them."""
    start = _START.format(libraries=list(_libraries()), module=module)
    return [sys.executable, "-IS", "-X", "utf8", "-c", start]


def write_gpg_launcher(path: Path) -> Path:
    """Write an executable file that runs the gpg filter: duplicity takes a program, not an argument list."""
    start = _START.format(libraries=list(_libraries()), module="tklb.engine.gpg_filter")
    content = f"#!{sys.executable} -IS\n{start}\n".encode()
    if not path.exists() or path.read_bytes() != content:
        write_atomic(path, content, mode=0o700)
    return path

"""Which paths the configuration of dpkg keeps away from the machine: `path-exclude` and `path-include`.

Takes a root; gives a filter. Source: dpkg(1), dpkg.cfg(5). Patterns are those of a shell where `*` also stands for
slashes. The last one that matches decides.
"""

import fnmatch
import re
from collections.abc import Callable

from tklb.host.registries.database import list_names, read_file

_FOLDER = b"/etc/dpkg/dpkg.cfg.d"
_NAME = re.compile(rb"[A-Za-z0-9_-]+")
_LINE = re.compile(rb"^[ \t]*path-(exclude|include)[ \t]*[= \t][ \t]*(\S+)[ \t]*$", re.MULTILINE)


def read_path_excludes(root: bytes) -> Callable[[bytes], bool]:
    """Give a function that says whether dpkg leaves out a path that a package brings."""
    files = [_FOLDER + b"/" + name for name in list_names(root, _FOLDER) if _NAME.fullmatch(name)]
    texts = [read_file(root, path) for path in (*files, b"/etc/dpkg/dpkg.cfg")]
    rules = [
        (kind == b"exclude", re.compile(_translate(pattern.strip(b"'\""))))
        for text in texts
        for kind, pattern in _LINE.findall(text)
    ]

    def is_excluded(path: bytes) -> bool:
        return next((excludes for excludes, pattern in reversed(rules) if pattern.match(path)), False)

    return is_excluded


def _translate(pattern: bytes) -> bytes:
    return fnmatch.translate(pattern.decode("latin-1")).encode("latin-1")

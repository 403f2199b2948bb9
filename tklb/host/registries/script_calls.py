"""Calls of one program in the scripts of packages: shell text, of which only the plain part is understood.

Takes the text of a script; gives words. Comments are left out, continued lines are joined, and a variable counts if the
script gives it one value only. A call with any other sign of the shell is left out: it could mean anything.
"""

import re
from collections import defaultdict
from collections.abc import Iterator

_COMMENT = re.compile(rb"^[ \t]*#[^\n]*$", re.MULTILINE)
_VALUE = re.compile(rb"""^[ \t]*([A-Za-z_]\w*)=["']?([\w./:+-]*)["']?[ \t;]*$""", re.MULTILINE)
_ANY_VALUE = re.compile(rb"(?<![\w$-])([A-Za-z_]\w*)=|\bfor[ \t]+([A-Za-z_]\w*)[ \t]+in\b|\bread[ \t]+([A-Za-z_]\w*)")
_VARIABLE = re.compile(rb"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))")
_ODD = re.compile(rb"[$`*?\[\]{}\\]")


def read_plain_text(script: bytes) -> bytes:
    """Give a script without comments, with joined lines and plain variables replaced."""
    text = _COMMENT.sub(b"", script.replace(b"\\\n", b" "))
    values, counts = dict(_VALUE.findall(text)), defaultdict[bytes, int](int)
    for found in _ANY_VALUE.finditer(text):
        counts[found[1] or found[2] or found[3]] += 1
    known = {name: value for name, value in values.items() if counts[name] == 1}
    return _VARIABLE.sub(lambda found: known.get(found[1] or found[2], found[0]), text)


def list_calls(text: bytes, program: bytes) -> Iterator[tuple[bytes, ...]]:
    """Give the arguments of each plain call of `program` in a plain text."""
    pattern = rb"(?<![\w./-])(?:/usr/s?bin/)?" + re.escape(program) + rb"[ \t]+([^\n;&|<>()]+)"
    for found in re.finditer(pattern, text):
        words = tuple(word.strip(b"'\"") for word in found[1].split())
        if not _ODD.search(b"".join(words)):
            yield words

"""Calls of one program in the scripts of packages: shell text, of which only the plain part is understood.

Takes the text of a script; gives words. Comments are left out, and continued lines are joined. A variable counts if the
script gives it one plain value. Loops over plain words and calls of the script's own functions with plain arguments are
written out. A call with any other sign of the shell is left out: it could mean anything. Conditions are ignored.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

_COMMENT = re.compile(rb"^[ \t]*#[^\n]*$", re.MULTILINE)
_VALUE = re.compile(rb"""^[ \t]*(?:local[ \t]+)?([A-Za-z_]\w*)=["']?([\w./:+${}-]*)["']?[ \t;]*$""", re.MULTILINE)
_ANY_VALUE = re.compile(rb"(?<![\w$-])([A-Za-z_]\w*)=|\bfor[ \t]+([A-Za-z_]\w*)[ \t]+in\b|\bread[ \t]+([A-Za-z_]\w*)")
_VARIABLE = re.compile(rb"\$(?:\{([A-Za-z_]\w*|[1-9])\}|([A-Za-z_]\w*|[1-9]))")
_ODD = re.compile(rb"[$`*?\[\]{}\\]")
_LOOP = re.compile(
    rb"\bfor[ \t]+([A-Za-z_]\w*)[ \t]+in[ \t]+([^;\n]*?)[ \t]*[;\n]\s*do\b((?:(?!\bdo\b|\bdone\b).)*)\bdone\b",
    re.DOTALL,
)
_FUNCTION = re.compile(rb"^[ \t]*([A-Za-z_]\w*)[ \t]*\(\)\s*\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_ROUNDS = 4  # of values in values, and of loops in loops
_MOST_BYTES = 1 << 18  # of a script that is written out


def read_plain_text(script: bytes) -> bytes:
    """Give a script without comments, with variables, loops and functions written out where they are plain."""
    text = _COMMENT.sub(b"", script.replace(b"\\\n", b" "))
    counts = defaultdict[bytes, int](int)
    for found in _ANY_VALUE.finditer(text):
        counts[found[1] or found[2] or found[3]] += 1
    text = _put_values(text, counts)
    return _write_out_loops(_write_out_functions(_write_out_loops(text), counts))


def list_calls(text: bytes, program: bytes) -> Iterator[tuple[bytes, ...]]:
    """Give the arguments of each plain call of `program` in a plain text, up to the output of another program."""
    pattern = rb"(?<![\w./-])(?:/usr/s?bin/)?" + re.escape(program) + rb"[ \t]+([^\n;&|<>()]+)"
    for found in re.finditer(pattern, text):
        words = _split(found[1].removesuffix(b"$"))
        if not _ODD.search(b"".join(words)):
            yield words


def _split(words: bytes) -> tuple[bytes, ...]:
    return tuple(word.strip(b"'\"") for word in words.split())


def _put_values(text: bytes, counts: Mapping[bytes, int]) -> bytes:
    """Replace the variables that get one plain value."""
    for _ in range(_ROUNDS):
        values = ((name, value) for name, value in _VALUE.findall(text) if counts[name] == 1)
        known = {name: value for name, value in values if not _ODD.search(value)}
        before, text = text, _replace(text, known.get)
        if text == before:
            break
    return text


def _replace(text: bytes, value_of: Callable[[bytes], bytes | None]) -> bytes:
    def replace(found: re.Match[bytes]) -> bytes:
        value = value_of(found[1] or found[2])
        return found[0] if value is None else value

    return _VARIABLE.sub(replace, text)


def _write_out_loops(text: bytes) -> bytes:
    """Repeat the body of each loop over plain words, inner loops first. Other loops become their bodies."""

    def write_out(found: re.Match[bytes]) -> bytes:
        name, words, body = found[1], _split(found[2]), found[3]
        if _ODD.search(b"".join(words)) or len(body) * len(words) > _MOST_BYTES:
            return body
        return b"\n".join(_replace(body, {name: word}.get) for word in words)

    for _ in range(_ROUNDS):
        before, text = text, _LOOP.sub(write_out, text)
        if text == before or len(text) > _MOST_BYTES:
            break
    return text


def _write_out_functions(text: bytes, counts: Mapping[bytes, int]) -> bytes:
    """Put the body of each function where it is called with plain arguments."""
    bodies = {name: body for name, body in _FUNCTION.findall(text) if not re.search(rb"\bshift\b", body)}
    text = _FUNCTION.sub(b"", text)
    for name, body in bodies.items():
        call = re.compile(rb"^[ \t]*%s\b[ \t]*([^\n;&|<>()=]*)$" % name, re.MULTILINE)
        text = call.sub(lambda found, body=body: _write_out_call(found, body, counts), text)  # type: ignore[misc]
    return text


def _write_out_call(found: re.Match[bytes], body: bytes, counts: Mapping[bytes, int]) -> bytes:
    words = _split(found[1])
    if _ODD.search(b"".join(words)):
        return found[0]
    places = {b"%d" % number: word for number, word in enumerate(words, 1)}
    return _put_values(_replace(body, places.get), counts)

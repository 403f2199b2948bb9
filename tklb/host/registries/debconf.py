"""Answers of debconf: read those that the owner has seen, and preseed them.

Source: debconf(7), debconf-set-selections(1). /var/cache/debconf/config.dat and passwords.dat have stanzas with Name,
Template, Value, Owners and Flags; templates.dat has the type of each template. A line end in a value is written `\\n`.
"""

import re
from collections.abc import Iterable, Iterator

from tklb.diff.packages import is_bound_to_machine
from tklb.diff.registries.forms import can_preseed, format_answers
from tklb.host.registries.database import read_file, run_tool
from tklb.model.registries.decisions import Answer
from tklb.model.secret import Secret

_FOLDER = b"/var/cache/debconf/"
_FIELD = re.compile(rb"^(Name|Template|Value|Owners|Flags): ?(.*)$", re.MULTILINE)
_TEMPLATE = re.compile(rb"^Name: ?(.*)\n(?:[^\n]+\n)*?Type: ?(\w+)$", re.MULTILINE)
# What a new machine answers by itself.
_DEFAULTS = {(b"tzdata/Areas", b"Etc"), (b"tzdata/Zones/Etc", b"UTC")}


def read_answers(root: bytes, packages: frozenset[str] | None = None) -> tuple[Answer, ...]:
    """Give the seen answers to questions of some packages (None: all), but not to those about the hardware. Sorted."""
    seen = [stanza for name in (b"config.dat", b"passwords.dat") for stanza in _read_seen(root, name)]
    if not seen:
        return ()
    kinds = dict(_TEMPLATE.findall(read_file(root, _FOLDER + b"templates.dat")))
    found = {
        answer.question: answer
        for stanza in seen
        if (answer := _make_answer(stanza, kinds.get(stanza.get(b"Template", b""), b""), packages))
    }
    return tuple(found[question] for question in sorted(found))


def _read_seen(root: bytes, name: bytes) -> Iterator[dict[bytes, bytes]]:
    for text in read_file(root, _FOLDER + name).split(b"\n\n"):
        stanza = dict(_FIELD.findall(text)) if b"\nFlags:" in text else {}
        is_default = (stanza.get(b"Name"), stanza.get(b"Value")) in _DEFAULTS
        if not is_default and b"seen" in re.split(rb",\s*", stanza.get(b"Flags", b"")):
            yield stanza


def _make_answer(stanza: dict[bytes, bytes], kind: bytes, packages: frozenset[str] | None) -> Answer | None:
    fields = {key: value.decode("utf-8", "surrogateescape") for key, value in stanza.items()}
    question, value = fields.get(b"Name", ""), fields.get(b"Value", "")
    owners = [name for name in re.split(r",\s*", fields.get(b"Owners", "")) if packages is None or name in packages]
    if not owners or any(map(is_bound_to_machine, owners)):
        return None
    answer = Answer(
        owners[0], question, kind.decode("ascii", "replace"), Secret(value) if kind == b"password" else value
    )
    return answer if can_preseed(answer) else None


def give_answers(answers: Iterable[Answer], root: bytes) -> None:
    """Give debconf the answers, so that it asks no more. The values pass through a pipe. Raises ProgramFailed."""
    run_tool(root, ["debconf-set-selections"], format_answers(answers))

"""Answers of debconf: read those that the owner has seen, and preseed them.

Source: debconf(7), debconf-set-selections(1). /var/cache/debconf/config.dat and passwords.dat have stanzas with Name,
Template, Value, Owners and Flags; templates.dat has the type of each template. A line end in a value is written `\\n`.
"""

import re
from collections.abc import Callable, Iterable, Iterator

from tklb.diff.packages import is_bound_to_machine
from tklb.diff.registries.forms import can_preseed, format_answers
from tklb.host.registries.database import read_file, run_tool
from tklb.model.registries.decisions import Answer
from tklb.model.secret import Secret

_FOLDER = b"/var/cache/debconf/"
_FIELD = re.compile(rb"^(Name|Template|Value|Owners|Flags): ?(.*)$", re.MULTILINE)
_TEMPLATE = re.compile(rb"^Name: ?(.*)\n(?:[^\n]+\n)*?Type: ?(\w+)$", re.MULTILINE)
_OF_NO_PACKAGE = frozenset(("", "d-i", "debian-installer", "unknown"))  # the installer's
# What a new machine answers by itself.
_DEFAULTS = {(b"tzdata/Areas", b"Etc"), (b"tzdata/Zones/Etc", b"UTC")}


def read_answers(root: bytes, wanted: Callable[[str], bool] = lambda _name: True) -> tuple[Answer, ...]:
    """Give the seen answers to questions of the wanted packages, but not to those about the hardware. Sorted.

    A package need not be installed: somebody may have preseeded its answers, or removed it and kept its configuration.
    """
    seen = [stanza for name in (b"config.dat", b"passwords.dat") for stanza in _read_seen(root, name)]
    if not seen:
        return ()
    kinds = dict(_TEMPLATE.findall(read_file(root, _FOLDER + b"templates.dat")))
    found = {
        answer.question: answer
        for stanza in seen
        if (answer := _make_answer(stanza, kinds.get(stanza.get(b"Template", b""), b""), wanted))
    }
    return tuple(found[question] for question in sorted(found))


def _read_seen(root: bytes, name: bytes) -> Iterator[dict[bytes, bytes]]:
    for text in read_file(root, _FOLDER + name).split(b"\n\n"):
        stanza = dict(_FIELD.findall(text)) if b"\nFlags:" in text else {}
        is_default = (stanza.get(b"Name"), stanza.get(b"Value")) in _DEFAULTS
        if not is_default and b"seen" in re.split(rb",\s*", stanza.get(b"Flags", b"")):
            yield stanza


def _make_answer(stanza: dict[bytes, bytes], kind: bytes, wanted: Callable[[str], bool]) -> Answer | None:
    fields = {key: value.decode("utf-8", "surrogateescape") for key, value in stanza.items()}
    question, value = fields.get(b"Name", ""), fields.get(b"Value", "")
    owners = [
        name for name in re.split(r",\s*", fields.get(b"Owners", "")) if name not in _OF_NO_PACKAGE and wanted(name)
    ]
    if not owners or any(map(is_bound_to_machine, owners)):
        return None
    answer = Answer(
        owners[0], question, kind.decode("ascii", "replace"), Secret(value) if kind == b"password" else value
    )
    return answer if can_preseed(answer) else None


def give_answers(answers: Iterable[Answer], root: bytes) -> None:
    """Give debconf the answers, so that it asks no more. The values pass through a pipe. Raises ProgramFailed."""
    run_tool(root, ["debconf-set-selections"], format_answers(answers))

"""Rows of a dump in the form that a newer server gives and takes: values of type "char" above 127.

Since version 16 such a value is a backslash with three octal digits; before it was the byte itself, which no COPY of a
database in UTF-8 takes. Takes and gives blocks of lines. Source: charout of char.c.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from tklb.databases.postgresql.catalogue import Table

__all__ = ["adapt_rows"]

_FIRST_WITH_DIGITS = 160000
_FORMS = {'"char"': rb"\\\\%03o", '"char"[]': rb'"\\\\\\\\%03o"'}  # by type: as COPY spells it, alone and in a list
_HIGH = re.compile(rb"[\x80-\xff]")


def adapt_rows(blocks: Iterable[bytes], table: Table, version: int) -> Iterable[bytes]:
    """The rows as a server of this version has them; the blocks themselves where that is no other form."""
    forms = [_FORMS.get(column.type, b"") for column in table.columns]
    return _adapt(blocks, forms) if any(forms) and version >= _FIRST_WITH_DIGITS else blocks


def _adapt(blocks: Iterable[bytes], forms: Sequence[bytes]) -> Iterator[bytes]:
    rest = b""
    for block in blocks:
        lines, end, rest = (rest + block).rpartition(b"\n")
        if end:
            yield b"\n".join(_adapt_line(line, forms) for line in lines.split(b"\n")) + end
    if rest:
        yield rest


def _adapt_line(line: bytes, forms: Sequence[bytes]) -> bytes:
    if line.isascii():
        return line
    values = line.split(b"\t")
    return b"\t".join(_adapt_value(value, form) for value, form in zip(values, forms, strict=False))


def _adapt_value(value: bytes, form: bytes) -> bytes:
    return _HIGH.sub(lambda found: form % found[0][0], value) if form else value

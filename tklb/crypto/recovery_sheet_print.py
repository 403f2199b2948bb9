"""The recovery sheet for paper: one A4 page as PDF, and the same as text. Knows segno and reportlab.

Takes a RecoverySheet; gives text and bytes. Touches nothing. The square (a QR code) holds the whole key file.
"""

import io
import textwrap
from collections.abc import Iterator
from typing import Any

import segno
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.lib.utils import simpleSplit
from reportlab.pdfgen.canvas import Canvas

from tklb.crypto.recovery_sheet import COMMAND, TITLE, RecoverySheet, describe_safekeeping, facts, steps
from tklb.errors import KeyUnusable

_MARGIN, _SQUARE, _GAP, _LABEL = 15 * mm, 66 * mm, 5 * mm, 23 * mm
_QUIET = 4  # modules around a square, ISO/IEC 18004
_PLAIN, _BOLD, _FIXED = "Helvetica", "Helvetica-Bold", "Courier"
_SIZES = (10, 9.5, 9, 8.5, 8, 7.5, 7, 6.5, 6, 5.5, 5)  # points; the largest that fits the page
_COLUMNS = 100
_HALVES = " ▀▄█"  # by the upper and the lower module

Matrix = tuple[tuple[bool, ...], ...]


def square(text: str) -> Matrix:
    """The modules of a QR code, true for dark, without its quiet zone. Raises ValueError where a text is too long."""
    code = segno.make_qr(text, error="m", mode="byte", encoding="ascii", boost_error=False)
    return tuple(tuple(bool(module) for module in row) for row in code.matrix)


def sheet_text(sheet: RecoverySheet) -> str:
    """The sheet for a screen or any printer."""
    width = max(len(name) for name, _ in facts(sheet))
    lines = (
        f"{TITLE}: {sheet.hostname}",
        "",
        *(f"{name:{width}}  {value}" for name, value in facts(sheet)),
        "",
        *textwrap.wrap(describe_safekeeping(sheet), _COLUMNS),
        "",
        *steps(sheet),
        "",
        sheet.key,
        *_blocks(square(sheet.key)),
    )
    return "\n".join(lines) + "\n"


def sheet_pdf(sheet: RecoverySheet) -> bytes:
    """The sheet as one page of PDF. Raises KeyUnusable where an address is too long for one."""
    for size in _SIZES:
        stream = io.BytesIO()
        canvas = Canvas(stream, pagesize=A4, invariant=1)
        canvas.setTitle(f"{TITLE}: {_printable(sheet.hostname)}")
        if _draw(canvas, sheet, size):
            canvas.showPage()
            canvas.save()
            return stream.getvalue()
    raise KeyUnusable(reason="name or address are too long for a recovery sheet of one page")


def _blocks(modules: Matrix) -> Iterator[str]:
    """Two rows of modules in a line of text."""
    width = len(modules) + 2 * _QUIET
    empty = ((False,) * width,) * _QUIET
    rows = (*empty, *((*(False,) * _QUIET, *row, *(False,) * _QUIET) for row in modules), *empty, (False,) * width)
    for upper, lower in zip(rows[::2], rows[1::2], strict=False):
        yield "".join(_HALVES[high + 2 * low] for high, low in zip(upper, lower, strict=True)).rstrip()


def _draw(canvas: Any, sheet: RecoverySheet, size: float) -> bool:  # noqa: ANN401 - reportlab has no types
    """Draw the page with letters of a size. Whether all of it fits."""
    width, height = A4
    top = height - _MARGIN - 16
    canvas.setFont(_BOLD, 16)
    canvas.drawString(_MARGIN, top, f"{TITLE}: {_printable(sheet.hostname)}"[:60])
    top -= _GAP
    _draw_square(canvas, square(sheet.key), width - _MARGIN - _SQUARE, top - _SQUARE)
    beside = _Column(canvas, size, top - size, width - _MARGIN - _SQUARE - _GAP)
    for name, value in facts(sheet):
        canvas.setFont(_BOLD, size)
        canvas.drawString(_MARGIN, beside.y, name)
        beside.draw_broken(_printable(value), _MARGIN + _LABEL)
    beside.y -= size
    beside.draw(describe_safekeeping(sheet), _MARGIN, _PLAIN)
    below = _Column(canvas, size, min(beside.y, top - _SQUARE) - size, width - _MARGIN)
    for line in steps(sheet):
        indent = _MARGIN + (len(line) - len(line.lstrip())) * size / 2
        if line.startswith(COMMAND):
            below.draw(_printable(line.strip()), indent, _FIXED, " \\")
        else:
            below.draw(_printable(line.strip()), indent, _PLAIN)
    below.y -= size
    for line in sheet.key.strip().split("\n"):
        below.draw(line, _MARGIN, _FIXED)
    return beside.fits and below.fits and below.y > _MARGIN - size


class _Column:
    """Lines below each other, down from `y`, up to `right`."""

    def __init__(self, canvas: Any, size: float, y: float, right: float) -> None:  # noqa: ANN401
        self.y, self.fits = y, True
        self._canvas, self._size, self._right = canvas, size, right

    def draw(self, text: str, x: float, font: str, end: str = "") -> None:
        """Draw a text in whole words on as many lines as it needs, with `end` after all lines but the last."""
        self._canvas.setFont(font, self._size)
        room = self._right - x - self._canvas.stringWidth(end, font, self._size)
        *lines, last = simpleSplit(text, font, self._size, room) or [""]
        for line in (*(line + end for line in lines), last):
            self.fits &= self._canvas.stringWidth(line, font, self._size) <= self._right - x
            self._canvas.drawString(x, self.y, line)
            self.y -= self._size * 1.3

    def draw_broken(self, text: str, x: float) -> None:
        """Draw a text that nobody types: it breaks anywhere at the end of a line."""
        columns = int((self._right - x) / self._canvas.stringWidth("m", _FIXED, self._size))
        for line in textwrap.wrap(text, columns, break_on_hyphens=False) or [""]:
            self.draw(line, x, _FIXED)


def _draw_square(canvas: Any, modules: Matrix, x: float, y: float) -> None:  # noqa: ANN401
    side = _SQUARE / (len(modules) + 2 * _QUIET)
    path = canvas.beginPath()
    rows = enumerate(reversed(modules), _QUIET)
    for across, down in ((across, down) for down, row in rows for across, dark in enumerate(row, _QUIET) if dark):
        path.rect(x + across * side, y + down * side, side, side)
    canvas.drawPath(path, stroke=0, fill=1)


def _printable(text: str) -> str:
    """The text with all letters escaped that the standard fonts lack; the text file has them as they are."""
    return text.encode("latin-1", "backslashreplace").decode("latin-1")

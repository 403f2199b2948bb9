"""The fingerprint of a key as people type it."""

import re

from tklb.errors import UsageWrong

_SHAPE = re.compile(r"[0-9a-f]{16}")


def parse_fingerprint(text: str) -> str:
    """Give the fingerprint in four groups; capitals, blanks and dashes are the typist's choice. Raises UsageWrong."""
    digits = re.sub(r"[-\s]", "", text).lower()
    if not _SHAPE.fullmatch(digits):
        raise UsageWrong(reason=f"`{text}` is no fingerprint of a key: it has four groups of four digits from 0 to f")
    return "-".join(digits[start : start + 4] for start in range(0, 16, 4))

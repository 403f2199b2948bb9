"""Rules for single paths of packages in /usr, which is out of scope otherwise. Pure.

A profile records those whose mode, owner or capabilities are not the usual ones, and a backup compares them. Each has a
rule of its own, which does not hold for what is below a folder.
"""

import re
from collections.abc import Iterable, Iterator

from tklb.diff.rules import Rule, Rules
from tklb.profile.left_out import LEFT_OUT

_TOPS = frozenset(b"/" + name for name in b"usr bin sbin lib lib32 lib64 libx32 libo32".split())
_SIGNS = re.compile(rb"([*?\[\\])")


def list_exact_rules(paths: Iterable[bytes]) -> Iterator[Rule]:
    """Give rules that include each of `paths`, without what is below it."""
    for path in paths:
        yield Rule(True, path, is_literal=True)
        yield Rule(False, _SIGNS.sub(rb"\\\1", path) + b"/*")


def is_system_path(path: bytes) -> bool:
    """Whether a path is in the folders that packages fill."""
    return b"/" + path.split(b"/", 2)[1] in _TOPS


def is_covered(rules: Rules, path: bytes) -> bool:
    """Whether another rule than the one about the whole of /usr decides about `path`."""
    rule = rules.decide(path).rule
    return rule is not None and not (rule.pattern in _TOPS and rule.pattern in LEFT_OUT and not rule.is_override)

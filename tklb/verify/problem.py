"""A problem that a verification found, and its cost. Pure."""

from typing import NamedTuple

from tklb.lazy_dataclass import dataclass


class LostFile(NamedTuple):
    """A path whose content, in these snapshots, a damaged object holds."""

    path: bytes
    snapshots: tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem with one object of a target, and its cost.

    `kind` is one of missing, truncated, damaged, unexpected; `reason` is text for people. A restore of `snapshots` is
    impossible while the problem lasts. `files` are their files that the object holds; without the object they lose no
    others, where `exact`: the list of names may be damaged too. `stranded` are the snapshots among them whose metadata
    the object holds: without it the rest cannot be put back.
    `copy` says where a whole copy is, "" if nowhere; `is_repaired` whether it was put back.
    """

    volume: str
    kind: str
    snapshots: tuple[str, ...] = ()
    files: tuple[LostFile, ...] = ()
    stranded: tuple[str, ...] = ()
    exact: bool = True
    reason: str = ""
    copy: str = ""
    is_repaired: bool = False

    @property
    def is_harmless(self) -> bool:
        """Whether it costs nothing and blocks no run: tklb never reads objects that no ledger entry names."""
        return self.kind == "unexpected"

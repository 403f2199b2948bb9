"""Which profile fits a machine: its release, then the package set that is nearest. Reads only."""

import os
import re
from pathlib import Path

from tklb.model import Package
from tklb.profile.folder import LAST_RESORT, Profile, find, shipped
from tklb.system.dpkg import installed

_LINE = re.compile(r"""^(ID|VERSION_ID|VERSION_CODENAME)=["']?([A-Za-z0-9._-]*)["']?$""", re.MULTILINE)
_MOST_MISSING = 1 / 3  # of a profile's packages: with more missing it describes another kind of machine


def detect(root: bytes = b"/", folder: Path | None = None) -> Profile:
    """The shipped profile that fits best; where none does, that of last resort. Raises ProfileInvalid."""
    release = os_release(root)
    present = {package.name for package in installed(root)}
    best: tuple[int, str, Profile] | None = None
    for profile in shipped(folder):
        if profile.release != release or profile.recipe.derived:
            continue
        recorded = _names(profile.recorded_packages())
        if len(recorded - present) > len(recorded) * _MOST_MISSING:
            continue
        fit = (len(recorded ^ present), profile.id, profile)
        best = fit if best is None or fit[:2] < best[:2] else best
    return best[2] if best is not None else find(folder, LAST_RESORT)


def _names(packages: tuple[Package, ...]) -> set[str]:
    return {package.name for package in packages}


def os_release(root: bytes = b"/") -> str:
    """`ID-VERSION_ID`, such as debian-12; just `ID` where a release has no number; "" where nothing says."""
    fields = _fields(root)
    return "-".join(filter(None, (fields.get("ID"), fields.get("VERSION_ID"))))


def codename(root: bytes = b"/") -> str:
    """The release's name in package sources, such as bookworm; "" where nothing says."""
    return _fields(root).get("VERSION_CODENAME", "")


def _fields(root: bytes) -> dict[str, str]:
    for name in (b"etc/os-release", b"usr/lib/os-release"):
        try:
            with open(os.path.join(root, name), encoding="utf-8", errors="replace") as stream:
                return dict(_LINE.findall(stream.read()))
        except OSError:
            continue
    return {}

"""Detect the profile of a machine: of its release, with the most similar set of packages. Reads only."""

from pathlib import Path

from tklb.host.dpkg import list_installed
from tklb.host.release import read_os_release
from tklb.model.packages import Package
from tklb.profile.folder import LAST_RESORT, Profile, find_profile, list_shipped

_MOST_MISSING = 1 / 3  # of a profile's packages; with more missing, the machine is of another type


def detect_profile(root: bytes = b"/", folder: Path | None = None) -> Profile:
    """Give the shipped profile that fits best, or that of last resort if none fits. Raises ProfileInvalid."""
    release = read_os_release(root)
    present = {package.name for package in list_installed(root)}
    best: tuple[int, str, Profile] | None = None
    for profile in list_shipped(folder):
        if profile.release != release or profile.recipe.derived:
            continue
        recorded = _names(profile.recorded_packages())
        if len(recorded - present) > len(recorded) * _MOST_MISSING:
            continue
        fit = (len(recorded ^ present), profile.id, profile)
        best = fit if best is None or fit[:2] < best[:2] else best
    return best[2] if best is not None else find_profile(folder, LAST_RESORT)


def _names(packages: tuple[Package, ...]) -> set[str]:
    return {package.name for package in packages}

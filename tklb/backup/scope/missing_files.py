"""Files of packages in /usr that are missing: deleted by the owner, left out by dpkg's configuration, or lost.

Takes a root and the missing paths; reads dpkg's database and configuration. The configuration travels in /etc, so what
it leaves out is no deletion. The programs and libraries that dpkg and the scripts of packages run on are no choice of
anybody: without them the machine is damaged, and no other machine should lose them.
"""

from collections.abc import Iterable

from tklb.host.dpkg import find_listed
from tklb.host.registries.path_excludes import read_path_excludes
from tklb.model.report import Skipped

_DISPENSABLE = b"/usr/share/"
_NEEDED = frozenset(
    (
        "apt", "bash", "coreutils", "dash", "debconf", "debianutils", "diffutils", "dpkg", "findutils", "grep", "gzip",
        "init-system-helpers", "libc-bin", "libc6", "perl-base", "sed", "tar",
    )
)  # fmt: skip
_REASON = "it is missing, and dpkg needs the package that brings it: install that again (apt-get install --reinstall)"


def find_missing_files(root: bytes, missing: Iterable[bytes]) -> tuple[tuple[bytes, ...], tuple[Skipped, ...]]:
    """Give the sorted paths that the owner deleted, and those whose loss is damage."""
    is_excluded = read_path_excludes(root)
    gone = [path for path in missing if not is_excluded(path)]
    needed = [path for path in gone if not path.startswith(_DISPENSABLE)]
    lost = find_listed(root, needed, _NEEDED) if needed else frozenset()
    return tuple(sorted({*gone} - lost)), tuple(Skipped(path, _REASON) for path in sorted(lost))

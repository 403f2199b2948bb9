"""Run apt: refresh its lists, remove and mark packages. `install` installs, `offers` asks what there is.

Takes names; gives what it could not do as Skipped values. Changes packages, their marks and, during a call,
/usr/sbin/policy-rc.d. No prompt can hang it: standard input is closed, debconf is not interactive, dpkg keeps
conffiles as they are, and every call has a time limit.
"""

import os
import re
from collections.abc import Callable, Iterable, Sequence

from tklb.base.process import ProcessResult, run
from tklb.diff.packages import label, native_architecture
from tklb.errors import PackagesFailed, ProgramFailed, ProgramMissing
from tklb.host import dpkg
from tklb.host.services import deny_service_starts
from tklb.model.packages import Package
from tklb.model.report import Skipped

NAME = re.compile(r"[a-z0-9][a-z0-9+._-]*[a-z0-9+.](:[a-z0-9][a-z0-9-]*)?")  # a "-" at the end would mean removal
LOCK_SECONDS = 300  # how long to wait for another apt or dpkg
STEP_SECONDS = 3600  # how long one call may take
_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",  # scripts make clusters of PostgreSQL and settings of the console by it
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBIAN_PRIORITY": "critical",
    "APT_LISTCHANGES_FRONTEND": "none",
    "APT_LISTBUGS_FRONTEND": "none",
    "NEEDRESTART_SUSPEND": "1",
    "UCF_FORCE_CONFFOLD": "1",
}
OPTIONS = (
    "-o", f"DPkg::Lock::Timeout={LOCK_SECONDS}",
    "-o", "Dpkg::Options::=--force-confdef",
    "-o", "Dpkg::Options::=--force-confold",
    "-o", "APT::Color=false",
    "-o", "Dpkg::Use-Pty=false",
)  # fmt: skip
Watch = Callable[[], None]


def update(root: bytes = b"/", watch: Watch | None = None, options: Sequence[str] = ()) -> tuple[str, ...]:
    """Download the package lists. A source that fails is a warning: the other and the older lists still help.

    `options` of apt come after all others.
    """
    result = run_apt(root, ["apt-get", "-q", *OPTIONS, *options, "update"], accept=range(256), watch=watch)
    said = (result.stdout + b"\n" + result.stderr).decode("utf-8", "backslashreplace").splitlines()
    found = [line for line in said if line.startswith(("E:", "W:", "Err:"))]
    return tuple(dict.fromkeys(found)) or ((f"apt-get update ended with {result.status}",) if result.status else ())


def remove(labels: Sequence[str], root: bytes = b"/", watch: Watch | None = None) -> tuple[Skipped, ...]:
    """Remove packages, each only if no other package would go with it. Their configuration stays."""
    ensure_usable(root)
    named = [name for name in labels if NAME.fullmatch(name)]
    skipped = []
    with deny_service_starts(root):
        for name in sorted(set(labels) - set(find_absent(root, labels))):
            said = run_apt(root, ["apt-get", "-q", "-s", *OPTIONS, "remove", "--", name], accept=(0, 100)).stdout
            gone = {word.decode().partition(":")[0] for word in re.findall(rb"^Remv (\S+)", said, re.MULTILINE)}
            others = sorted(gone - {label.partition(":")[0] for label in named})
            reason = f"others would go with it: {' '.join(others)}" if others else ""
            if not reason:
                reason = try_command(root, ["apt-get", "-qy", *OPTIONS, "remove", "--", name], watch)
            if reason and not find_absent(root, [name]):
                skipped.append(Skipped(f"package:{name}".encode(), reason))
    return tuple(skipped)


def mark(marks: Iterable[tuple[str, bool, bool]], root: bytes = b"/") -> tuple[Skipped, ...]:
    """Mark packages: (label, automatically installed, held). Absent ones are ignored, unless they are to be held.

    apt is asked for what differs only: each of its calls reads all package lists.
    """
    wanted = {name: (auto, held) for name, auto, held in marks if NAME.fullmatch(name)}
    here = _list_by_label(root)
    present = {name: here[name] for name in sorted(wanted) if name in here}
    skipped = []
    for word, names in (
        ("auto", [name for name, one in present.items() if wanted[name][0] and not one.auto]),
        ("manual", [name for name, one in present.items() if one.auto and not wanted[name][0]]),
        ("hold", [name for name, one in present.items() if wanted[name][1] and not one.held]),
        ("unhold", [name for name, one in present.items() if one.held and not wanted[name][1]]),
    ):
        if names and (reason := try_command(root, ["apt-mark", word, "--", *names], None)):
            skipped += [Skipped(f"package:{name}".encode(), f"not marked {word}: {reason}") for name in names]
    for name in sorted(name for name, (_, held) in wanted.items() if held and name not in present):
        if reason := try_command(root, ["apt-mark", "hold", "--", name], None):
            skipped.append(Skipped(f"package:{name}".encode(), f"not held: {reason}"))
    return tuple(skipped)


def has_open_journal(root: bytes = b"/") -> bool:
    """Whether dpkg was ended amid its work: changes wait in its journal."""
    updates = os.path.join(root, b"var/lib/dpkg/updates")
    return os.path.isdir(updates) and any(name.isdigit() for name in os.listdir(updates))


def ensure_usable(root: bytes = b"/") -> None:
    """Raise PackagesFailed if dpkg was interrupted: more changes would fail, or make it worse."""
    if has_open_journal(root):
        raise PackagesFailed(reason="dpkg was interrupted")


def try_command(root: bytes, argv: Sequence[str], watch: Watch | None) -> str:
    try:
        result = run_apt(root, argv, accept=range(256), watch=watch)
    except ProgramMissing:
        raise
    except ProgramFailed as exc:
        return str(exc)
    if result.status == 0:
        return ""
    said = (result.stdout + b"\n" + result.stderr).decode("utf-8", "backslashreplace").splitlines()
    errors = [line.strip() for line in said if line.startswith(("E:", " ", "dpkg: error"))]
    return " / ".join(errors[-3:]) or f"{argv[0]} ended with {result.status}"


def find_absent(root: bytes, labels: Iterable[str]) -> list[str]:
    """Give the labels of packages that are not installed here, and malformed labels. Sorted."""
    return sorted(set(labels) - _list_by_label(root).keys())


def _list_by_label(root: bytes) -> dict[str, Package]:
    """Give the installed packages by their labels, and by name and architecture: both may stand for one."""
    packages = dpkg.list_installed(root)
    native = native_architecture(packages)
    named = {f"{package.name}:{package.architecture}": package for package in packages}
    return named | {label(package, native): package for package in packages}


def run_apt(
    root: bytes, argv: Sequence[str], *, accept: Iterable[int] = (0,), watch: Watch | None = None
) -> ProcessResult:
    inside: list[str | bytes] = [] if root == b"/" else ["chroot", root]
    return run(
        [*inside, *argv],
        environment=_ENVIRONMENT,
        accept=tuple(accept),
        timeout=STEP_SECONDS,
        watch=watch,
        outlives=True,
    )

"""Install, remove and mark packages through apt, and find packages that no source offers.

Takes names; gives what it could not do as Skipped values. Changes packages, their marks and, during a call,
/usr/sbin/policy-rc.d. No prompt can hang it: standard input is closed, debconf is not interactive, dpkg keeps
conffiles as they are, and every call has a time limit. Only remove() removes packages.
"""

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from tklb.base.fs import private_folder
from tklb.base.json import read_state, write_state
from tklb.base.process import ProcessResult, run
from tklb.diff.packages import label, native_architecture
from tklb.errors import PackagesFailed, ProgramFailed, ProgramMissing, TklbError
from tklb.host import dpkg
from tklb.host.services import deny_service_starts
from tklb.model.packages import PackageDelta
from tklb.model.report import Skipped

NAME = re.compile(r"[a-z0-9][a-z0-9+._-]*[a-z0-9+.](:[a-z0-9][a-z0-9-]*)?")  # a "-" at the end would mean removal
LOCK_SECONDS = 300  # how long to wait for another apt or dpkg
STEP_SECONDS = 3600  # how long one call may take
_ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBIAN_PRIORITY": "critical",
    "APT_LISTCHANGES_FRONTEND": "none",
    "APT_LISTBUGS_FRONTEND": "none",
    "NEEDRESTART_SUSPEND": "1",
    "UCF_FORCE_CONFFOLD": "1",
}
_OPTIONS = (
    "-o", f"DPkg::Lock::Timeout={LOCK_SECONDS}",
    "-o", "Dpkg::Options::=--force-confdef",
    "-o", "Dpkg::Options::=--force-confold",
    "-o", "APT::Color=false",
    "-o", "Dpkg::Use-Pty=false",
)  # fmt: skip
_NOT_CONFIGURED = re.compile(r"(?m)^dpkg: error processing package ([^\s:]+)(?::\S+)? \(--configure\):\n (.+)$")
Watch = Callable[[], None]

# ---------------------------------------------------------------- what no source offers


def local_packages(root: bytes, delta: PackageDelta, cache: Path | None = None) -> frozenset[str]:
    """Give the labels of added packages that no configured source offers: they came from a .deb file.

    If no source offers dpkg itself, apt has no lists, so the answer is none. `cache` keeps the answer until lists,
    sources or names change, because asking takes most of a second.
    """
    native = native_architecture(dpkg.list_installed(root)) if delta.added else ""
    labels = sorted(label(package, native) for package in delta.added)
    if not labels:
        return frozenset()
    key = sha256(json.dumps([labels, [*_list_states(root), *_source_states(root)]]).encode()).hexdigest()
    answers = cache / "offers.json" if cache is not None else None
    if answers is not None and (answer := _read_answer(answers, key)) is not None:
        return answer
    found = list_offered(root, [*labels, "dpkg"])
    missing = frozenset(labels) - found if "dpkg" in found else frozenset()
    if answers is not None:
        with contextlib.suppress(OSError, TklbError):
            private_folder(answers.parent)
            write_state(answers, {"key": key, "local": sorted(missing)})
    return missing


def list_offered(root: bytes, labels: Iterable[str]) -> frozenset[str]:
    """Give those of the labels that some configured source offers in some version."""
    names = [name for name in labels if NAME.fullmatch(name)]
    if not names:
        return frozenset()
    said = _apt(root, ["apt-cache", "madison", "--", *names], accept=(0, 100)).stdout.decode("utf-8", "replace")
    found = {line.split("|")[0].strip() for line in said.splitlines() if line.count("|") == 2}
    return frozenset(name for name in names if name in found or name.partition(":")[0] in found)


def _read_answer(file: Path, key: str) -> frozenset[str] | None:
    def parse(answer: dict[str, Any]) -> frozenset[str] | None:
        return frozenset(answer["local"]) if answer["key"] == key else None

    return read_state(file, parse, None)


def _list_states(root: bytes) -> list[tuple[str, int, int]]:
    folder = os.path.join(root, b"var/lib/apt/lists")
    return [state for state in _states(folder) if "Packages" in state[0]]


def _source_states(root: bytes) -> list[tuple[str, int, int]]:
    return [*_states(os.path.join(root, b"etc/apt")), *_states(os.path.join(root, b"etc/apt/sources.list.d"))]


def _states(folder: bytes) -> list[tuple[str, int, int]]:
    try:
        with os.scandir(folder) as found:
            stats = [(os.fsdecode(item.name), item.stat(follow_symlinks=False)) for item in found if item.is_file()]
    except OSError:
        return []
    return sorted((name, status.st_mtime_ns, status.st_size) for name, status in stats)


# ---------------------------------------------------------------- install


def update(root: bytes = b"/", watch: Watch | None = None) -> tuple[str, ...]:
    """Download the package lists. A source that fails is a warning: the other and the older lists still help."""
    result = _apt(root, ["apt-get", "-q", *_OPTIONS, "update"], accept=range(256), watch=watch)
    said = (result.stdout + b"\n" + result.stderr).decode("utf-8", "backslashreplace").splitlines()
    found = [line for line in said if line.startswith(("E:", "W:", "Err:"))]
    return tuple(dict.fromkeys(found)) or ((f"apt-get update ended with {result.status}",) if result.status else ())


def install(labels: Sequence[str], root: bytes = b"/", watch: Watch | None = None) -> tuple[Skipped, ...]:
    """Install packages (`name` or `name:architecture`) in the versions this machine's sources offer.

    All at once, or one by one if that fails. No service starts. The result has each package that is not installed at
    the end, with the reason. Raises PackagesFailed if dpkg was interrupted before.
    """
    ensure_usable(root)
    missing = _find_absent(root, labels)
    known = list_offered(root, missing)
    reasons = {name: "no package source offers it" for name in missing if name not in known}
    wanted = [name for name in missing if name in known]
    unfinished: dict[str, str] = {}
    with deny_service_starts(root):
        if wanted and _try_install(root, wanted, watch):
            _configure(root)
            reasons |= _install_one_by_one(root, _find_absent(root, wanted), watch)
            unfinished = _configure(root)
    absent = set(_find_absent(root, labels))
    left = [Skipped(f"package:{name}".encode(), reasons.get(name, "apt-get left it out")) for name in sorted(absent)]
    broken = [name for name in dpkg.list_unfinished(root) if name not in absent]
    said = {name: f"it is not fully installed{unfinished.get(name, '')}" for name in broken}
    return (*left, *(Skipped(f"package:{name}".encode(), reason) for name, reason in said.items()))


def remove(labels: Sequence[str], root: bytes = b"/", watch: Watch | None = None) -> tuple[Skipped, ...]:
    """Remove packages, each only if no other package would go with it. Their configuration stays."""
    ensure_usable(root)
    named = [name for name in labels if NAME.fullmatch(name)]
    skipped = []
    with deny_service_starts(root):
        for name in sorted(set(labels) - set(_find_absent(root, labels))):
            said = _apt(root, ["apt-get", "-q", "-s", *_OPTIONS, "remove", "--", name], accept=(0, 100)).stdout
            gone = {word.decode().partition(":")[0] for word in re.findall(rb"^Remv (\S+)", said, re.MULTILINE)}
            others = sorted(gone - {label.partition(":")[0] for label in named})
            reason = f"others would go with it: {' '.join(others)}" if others else ""
            if not reason:
                reason = _try_command(root, ["apt-get", "-qy", *_OPTIONS, "remove", "--", name], watch)
            if reason and not _find_absent(root, [name]):
                skipped.append(Skipped(f"package:{name}".encode(), reason))
    return tuple(skipped)


def mark(marks: Iterable[tuple[str, bool, bool]], root: bytes = b"/") -> tuple[Skipped, ...]:
    """Mark installed packages: (label, automatically installed, held). This ignores absent ones."""
    wanted = {name: (auto, held) for name, auto, held in marks if NAME.fullmatch(name)}
    for name in _find_absent(root, wanted):
        del wanted[name]
    skipped = []
    for word, names in (
        ("auto", [name for name, (auto, _) in wanted.items() if auto]),
        ("manual", [name for name, (auto, _) in wanted.items() if not auto]),
        ("hold", [name for name, (_, held) in wanted.items() if held]),
        ("unhold", [name for name, (_, held) in wanted.items() if not held]),
    ):
        if names and (reason := _try_command(root, ["apt-mark", word, "--", *sorted(names)], None)):
            skipped += [Skipped(f"package:{name}".encode(), f"not marked {word}: {reason}") for name in sorted(names)]
    return tuple(skipped)


def ensure_usable(root: bytes = b"/") -> None:
    """Raise PackagesFailed if dpkg was interrupted: more changes would fail, or make it worse."""
    if names := dpkg.list_unfinished(root):
        raise PackagesFailed(reason=f"dpkg was interrupted in the middle of {' '.join(names)}")
    updates = os.path.join(root, b"var/lib/dpkg/updates")
    if os.path.isdir(updates) and any(name.isdigit() for name in os.listdir(updates)):
        raise PackagesFailed(reason="dpkg was interrupted")


def _install_one_by_one(root: bytes, names: Iterable[str], watch: Watch | None) -> dict[str, str]:
    """Give the reasons of failures by name."""
    found = {name: _try_install(root, [name], watch) for name in names}
    return {name: reason for name, reason in found.items() if reason}


def _try_install(root: bytes, names: Sequence[str], watch: Watch | None) -> str:
    """Give the reason of a failure, or "" if all went well."""
    options = ["-qy", "--no-remove", "--no-install-recommends", *_OPTIONS]
    return _try_command(root, ["apt-get", *options, "install", "--", *names], watch)


def _configure(root: bytes) -> dict[str, str]:
    """Let dpkg configure the packages that wait; give the reasons by name for those that it cannot configure."""
    try:
        argv = ["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"]
        said = _apt(root, argv, accept=range(256)).stderr.decode("utf-8", "backslashreplace")
    except ProgramMissing:
        raise
    except ProgramFailed as exc:
        return dict.fromkeys(dpkg.list_unfinished(root), f": {exc}")
    return {name: f": {reason}" for name, reason in _NOT_CONFIGURED.findall(said)}


def _try_command(root: bytes, argv: Sequence[str], watch: Watch | None) -> str:
    try:
        result = _apt(root, argv, accept=range(256), watch=watch)
    except ProgramMissing:
        raise
    except ProgramFailed as exc:
        return str(exc)
    if result.status == 0:
        return ""
    said = (result.stdout + b"\n" + result.stderr).decode("utf-8", "backslashreplace").splitlines()
    errors = [line.strip() for line in said if line.startswith(("E:", " ", "dpkg: error"))]
    return " / ".join(errors[-3:]) or f"{argv[0]} ended with {result.status}"


def _find_absent(root: bytes, labels: Iterable[str]) -> list[str]:
    """Give the labels of packages that are not installed here, and malformed labels. Sorted."""
    packages = dpkg.list_installed(root)
    native = native_architecture(packages)
    present = {label(package, native) for package in packages}
    present |= {f"{package.name}:{package.architecture}" for package in packages}
    return sorted(set(labels) - present)


def _apt(
    root: bytes, argv: Sequence[str], *, accept: Iterable[int] = (0,), watch: Watch | None = None
) -> ProcessResult:
    inside: list[str | bytes] = [] if root == b"/" else ["chroot", root]
    return run([*inside, *argv], environment=_ENVIRONMENT, accept=tuple(accept), timeout=STEP_SECONDS, watch=watch)

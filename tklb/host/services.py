"""Keep services stopped while packages are installed, and restart them after a restore.

Takes service names; gives what it could not do as Skipped values. Changes running services and, during an installation,
/usr/sbin/policy-rc.d (Debian Policy 9.3.3.2): package scripts ask it whether they may start a service.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tklb.base.fs import write_atomic
from tklb.base.process import run
from tklb.errors import ProgramFailed, ProgramMissing
from tklb.model.report import Skipped

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._-]*")
_ENDINGS = (".service", ".socket", ".timer", ".path", ".target", ".mount")
_POLICY = b"#!/bin/sh\n# Of tklb: no service starts on half a restore. Removed when the restore ends.\nexit 101\n"
_POLICY_PLACE = "/usr/sbin/policy-rc.d"
_FORBIDDEN = 101
_SECONDS = 180  # to start one service


@contextlib.contextmanager
def deny_service_starts(root: bytes = b"/") -> Iterator[None]:
    """Within the block, package scripts start no service. An existing policy comes back afterwards.

    This first gives back what a killed run left.
    """
    policy, kept = _find_policy(root)
    _restore_policy(policy, kept)
    if os.path.lexists(policy):
        policy.rename(kept)
    policy.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(policy, _POLICY, 0o755)
    try:
        yield
    finally:
        _restore_policy(policy, kept)


def has_left_policy(root: bytes = b"/") -> bool:
    """Whether a killed run left its policy, or the one of this machine aside."""
    policy, kept = _find_policy(root)
    return _is_own(policy) or (os.path.lexists(kept) and not os.path.lexists(policy))


def _find_policy(root: bytes) -> tuple[Path, Path]:
    """Give the place of the policy, and the place where the one of this machine waits."""
    policy = Path(os.fsdecode(root).rstrip("/") + _POLICY_PLACE)
    return policy, policy.with_name("policy-rc.d.tklb-kept")


def _is_own(policy: Path) -> bool:
    with contextlib.suppress(OSError):
        return not policy.is_symlink() and policy.read_bytes() == _POLICY
    return False


def _restore_policy(policy: Path, kept: Path) -> None:
    """Take away the policy of tklb, never that of the owner, and bring the owner's back."""
    if _is_own(policy):
        with contextlib.suppress(OSError):
            policy.unlink()
    if os.path.lexists(kept) and not os.path.lexists(policy):
        kept.rename(policy)


def can_start() -> bool:
    """Whether an init system runs here that starts services: systemd is process 1, or there is a runlevel."""
    return _has_systemd() or _find_runlevel() in "2345"


def is_running(name: str) -> bool:
    """Whether a service runs that has an init script."""
    is_there = _NAME.fullmatch(name) and os.access(f"/etc/init.d/{name}", os.X_OK)
    return bool(is_there) and run(["service", name, "status"], accept=range(256), timeout=_SECONDS).status == 0


def restart(names: Iterable[str]) -> tuple[Skipped, ...]:
    """Restart services in order, so that they read their configuration; start those that do not run.

    A masked or disabled service stays as it is. Without systemd and without a runlevel, only running services restart.
    """
    restart_one = _restart_by_systemd if _has_systemd() else _restart_by_script
    if restart_one is _restart_by_systemd:
        with contextlib.suppress(ProgramFailed):
            run(["systemctl", "daemon-reload"], timeout=_SECONDS)
    skipped = []
    for name in dict.fromkeys(names):
        reason = restart_one(name) if _NAME.fullmatch(name) else "not a valid name of a service"
        if reason:
            skipped.append(Skipped(f"service:{name}".encode(), reason))
    return tuple(skipped)


def is_forbidden(name: str, verb: str) -> bool:
    """Whether the policy of this machine forbids to `restart` or `start` a service. No policy forbids nothing."""
    if not os.access(_POLICY_PLACE, os.X_OK):
        return False
    return run([_POLICY_PLACE, name, verb], accept=range(256), timeout=_SECONDS).status == _FORBIDDEN


def _has_systemd() -> bool:
    return os.path.isdir("/run/systemd/system")


def _find_runlevel() -> str:
    """Give the present runlevel, or "unknown"."""
    try:
        words = run(["runlevel"], accept=range(256), timeout=_SECONDS).stdout.decode("ascii", "replace").split()
    except ProgramMissing:
        return "unknown"
    return words[-1] if len(words) == 2 else "unknown"


def _restart_by_systemd(name: str) -> str:
    unit = name if name.endswith(_ENDINGS) else f"{name}.service"
    state = run(["systemctl", "is-enabled", "--", unit], accept=range(256), timeout=_SECONDS).stdout.decode().strip()
    if state in ("", "not-found"):
        return "there is no such service"
    if state in ("disabled", "masked"):  # it was so on the backed-up machine too
        return ""
    if unit.endswith(".socket"):  # a socket refuses a restart while its service runs
        return _try_command(["systemctl", "start", "--", unit])
    verb = "try-reload-or-restart" if state == "static" else "reload-or-restart"  # another unit starts a static one
    return _try_command(["systemctl", verb, "--", unit])


def _restart_by_script(name: str) -> str:
    """Restart by the init script, where there is no systemd, as in a container.

    invoke-rc.d(8) does nothing and reports success where the runlevel is unknown. So this asks its two questions:
    does the policy allow it, and is the service enabled.
    """
    was_running = is_running(name)
    if not os.access(f"/etc/init.d/{name}", os.X_OK) or not (was_running or _find_runlevel() in "2345"):
        return ""  # nothing runs, and nothing starts it
    links = [link[0] for level in "2345" for link in _names(f"/etc/rc{level}.d") if link[3:] == name]
    if links and "S" not in links:
        return ""
    verb = "restart" if was_running else "start"
    if is_forbidden(name, verb):
        return "policy-rc.d forbids it"
    return _try_command(["service", name, verb])


def _names(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def _try_command(argv: list[str]) -> str:
    try:
        result = run(argv, accept=range(256), timeout=_SECONDS, may_leave_server=True)
    except (ProgramMissing, ProgramFailed) as exc:
        return str(exc)
    said = (result.stderr or result.stdout).decode("utf-8", "backslashreplace").strip().splitlines()
    return "" if result.status == 0 else (said[-1] if said else f"exit status {result.status}")

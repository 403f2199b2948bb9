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
_POLICY = b"#!/bin/sh\n# Of tklb: no service starts on half a restore. Removed when the restore ends.\nexit 101\n"
_POLICY_PLACE = "/usr/sbin/policy-rc.d"
_FORBIDDEN = 101
_SECONDS = 180  # to start one service


@contextlib.contextmanager
def deny_service_starts(root: bytes = b"/") -> Iterator[None]:
    """Within the block, package scripts start no service. An existing policy comes back afterwards.

    This first repairs what a killed run left.
    """
    policy = Path(os.fsdecode(root).rstrip("/") + _POLICY_PLACE)
    kept = policy.with_name("policy-rc.d.tklb-kept")
    _restore_policy(policy, kept)
    if os.path.lexists(policy):
        policy.rename(kept)
    policy.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(policy, _POLICY, 0o755)
    try:
        yield
    finally:
        _restore_policy(policy, kept)


def _restore_policy(policy: Path, kept: Path) -> None:
    with contextlib.suppress(OSError):
        if not policy.is_symlink() and policy.read_bytes() == _POLICY:
            policy.unlink()
    if os.path.lexists(kept) and not os.path.lexists(policy):
        kept.rename(policy)


def restart(names: Iterable[str]) -> tuple[Skipped, ...]:
    """Restart services in order, so that they read their configuration; systemd starts those that do not run.

    A masked or disabled service stays as it is. Without systemd, only running services restart.
    """
    restart_one = _restart_by_systemd if os.path.isdir("/run/systemd/system") else _restart_by_script
    if restart_one is _restart_by_systemd:
        with contextlib.suppress(ProgramFailed):
            run(["systemctl", "daemon-reload"], timeout=_SECONDS)
    skipped = []
    for name in dict.fromkeys(names):
        reason = restart_one(name) if _NAME.fullmatch(name) else "not a valid name of a service"
        if reason:
            skipped.append(Skipped(f"service:{name}".encode(), reason))
    return tuple(skipped)


def _restart_by_systemd(name: str) -> str:
    unit = name if "." in name else f"{name}.service"
    state = run(["systemctl", "is-enabled", "--", unit], accept=range(256), timeout=_SECONDS).stdout.decode().strip()
    if state in ("", "not-found"):
        return "there is no such service"
    if state in ("disabled", "masked"):  # it was so on the backed-up machine too
        return ""
    return _try_command(["systemctl", "reload-or-restart", "--", unit])


def _restart_by_script(name: str) -> str:
    """Restart by the init script, where there is no systemd, as in a container.

    invoke-rc.d(8) does nothing and reports success where the runlevel is unknown. So this asks its two questions:
    does the policy allow it, and is the service enabled.
    """
    is_there = os.access(f"/etc/init.d/{name}", os.X_OK)
    if not is_there or run(["service", name, "status"], accept=range(256), timeout=_SECONDS).status != 0:
        return ""  # it does not run
    links = [link[0] for level in "2345" for link in _names(f"/etc/rc{level}.d") if link[3:] == name]
    if links and "S" not in links:
        return ""
    if os.access(_POLICY_PLACE, os.X_OK):
        allowed = run([_POLICY_PLACE, name, "restart"], accept=range(256), timeout=_SECONDS).status
        if allowed == _FORBIDDEN:
            return "policy-rc.d forbids it"
    return _try_command(["service", name, "restart"])


def _names(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def _try_command(argv: list[str]) -> str:
    try:
        result = run(argv, accept=range(256), timeout=_SECONDS)
    except (ProgramMissing, ProgramFailed) as exc:
        return str(exc)
    said = (result.stderr or result.stdout).decode("utf-8", "backslashreplace").strip().splitlines()
    return "" if result.status == 0 else (said[-1] if said else f"exit status {result.status}")

"""Every failure of tklb: an exit status, a message of one line and a hint for the next step.

    TklbError
    ├── set-up 10-19    NotInitialised Locked ProfileInvalid ConfigInvalid NotRoot AlreadyInitialised
    ├── programs 20-29  ProgramMissing ProgramFailed
    ├── target 30-39    TargetUnreachable TargetFull SnapshotUnknown TargetDamaged AccessRefused TargetForeign
    │                   TargetUnfit TakenOver
    ├── key 40-49       WrongPassphrase KeyUnusable
    ├── machine 50-59   DatabaseFailed PackagesFailed NoSpace
    ├── restore 60-69   RestoreRefused
    └── UsageWrong 2, InternalError 1, Interrupted 130

`message` is a format string that the keyword arguments of the constructor fill. A new class needs a code of its own, a
hint and an entry in tklb(1). Exit status 3 is no error: the work is done, and the report lists the skipped items.
"""

import errno
from typing import ClassVar

COMPLETE = 0
INCOMPLETE = 3


class TklbError(Exception):
    """A failure with its facts and a next step. `code` is the exit status."""

    code: ClassVar[int] = 1
    message: ClassVar[str] = "{reason}"
    hint: ClassVar[str] = ""

    def __init__(self, **facts: object) -> None:
        self.facts = facts
        super().__init__(self.message.format(**{key: _printable_fact(value) for key, value in facts.items()}))

    @property
    def name(self) -> str:
        """The name of the class. It never changes, so scripts may rely on it."""
        return type(self).__name__

    @property
    def is_transient(self) -> bool:
        """Whether another try may succeed. The code that raises it says so with the fact `is_transient`."""
        return bool(self.facts.get("is_transient"))


def printable(name: bytes | str) -> str:
    """Give a name as one line of printable text. Bytes that are not UTF-8 and other odd characters are escaped."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _printable_fact(value: object) -> object:
    return printable(value) if isinstance(value, bytes | str) else value


class InternalError(TklbError):
    code, message = 1, "unexpected failure: {reason}"
    hint = "this is a bug in tklb: please report it with the log file of this run"


class UsageWrong(TklbError):
    code, message = 2, "{reason}"
    hint = "see `tklb --help` and `tklb COMMAND --help`"


class NotInitialised(TklbError):
    code, message = 10, "this machine is not set up for tklb: {reason}"
    hint = "run `tklb init`, or `tklb restore --target URL --key FILE` on a fresh machine"


class Locked(TklbError):
    code, message = 11, "another run holds the lock: {holder}"
    hint = "wait until it ends; tklb takes over the lock of a dead process"


class ProfileInvalid(TklbError):
    code, message = 12, "profile {profile}: {reason}"
    hint = "`tklb profile list` shows the shipped profiles; `tklb profile lint DIR` checks a folder"


class ConfigInvalid(TklbError):
    code, message = 13, "invalid configuration in {file}: {reason}"
    hint = "correct the file (tklb.toml(5) lists every key), then repeat the command"


class NotRoot(TklbError):
    code, message = 14, "{command} must be run as root"
    hint = "repeat the command with sudo"


class AlreadyInitialised(TklbError):
    code, message = 15, "this machine is already set up for tklb: {file} exists"
    hint = "`tklb init --force` writes the configuration again; the key stays"


class ProgramMissing(TklbError):
    code, message = 20, "the program {program} is not installed"
    hint = "run `scripts/install`, which installs everything that tklb needs"


class ProgramFailed(TklbError):
    code, message = 21, "{program} failed: {reason}"
    hint = "fix the problem reported above, then repeat the command; the log of this run has the whole output"


class TargetUnreachable(TklbError):
    code, message = 30, "cannot reach {address}: {reason}"
    hint = "check that the address is right and the storage is online, then repeat the command"


class TargetUnfit(TargetUnreachable):
    """The target answers, and says that it cannot do what it was asked for. Another try would change nothing."""

    code, message = 30, "{address} cannot do what tklb needs: {reason}"
    hint = "tklb(1) lists what a target must be able to do; change its settings, or use another target"


class TargetFull(TklbError):
    code, message = 31, "no space left on {address}"
    hint = "free some space there, then repeat the command; the next backup resumes an interrupted upload"


class SnapshotUnknown(TklbError):
    code, message = 32, "no snapshot {snapshot} on {address}"
    hint = "`tklb list` shows the existing snapshots"


class TargetDamaged(TklbError):
    code, message = 33, "{address} is damaged or was tampered with: {reason}"
    hint = "delete nothing there; `tklb verify` shows the cost; restore an older snapshot, or from another copy"


class AccessRefused(TklbError):
    code, message = 34, "access to {address} was refused: {reason}"
    hint = "check the owner, the mode or the credentials, then repeat the command"


class TargetForeign(TklbError):
    code, message = 35, "{address} holds the snapshots of {owner}"
    hint = "give this machine a target of its own: `tklb init --force --target URL`"


class TakenOver(TargetForeign):
    code, message = 35, "another installation of this machine backs up to {address}: {reason}"
    hint = "stop its backups, then let this machine continue: `tklb takeover`"


class WrongPassphrase(TklbError):
    code, message = 40, "wrong passphrase: {reason}"
    hint = "try again: upper and lower case and every blank count; another key file may have another passphrase"


class KeyUnusable(TklbError):
    code, message = 41, "no usable key: {reason}"
    hint = "fix the problem reported above; on another machine, use --key FILE with a file written by `tklb key escrow`"


class DatabaseFailed(TklbError):
    code, message = 50, "database {item}: {reason}"
    hint = "check that its server runs and accepts its administrator (tklb.toml(5)), then repeat the command"


class PackagesFailed(TklbError):
    code, message = 51, "cannot install or remove packages: {reason}"
    hint = "repair the package manager (`dpkg --configure -a`, `apt-get -f install`), then repeat the command"


class NoSpace(TklbError):
    code, message = 52, "no space left for {path}: {reason}"
    hint = "free some space, then repeat the command; the next backup resumes an interrupted upload"


class DiskFailed(TklbError):
    code, message = 53, "this machine cannot read or write {path}: {reason}"
    hint = "check its disks and mounts (`dmesg` says more), then repeat the command"


class NoMemory(TklbError):
    code, message = 54, "this machine has no memory left: {reason}"
    hint = "free some memory or add swap, then repeat the command"


class OutputFailed(TklbError):
    code, message = 55, "{done}, but the report could not be written: {reason}"
    hint = "give the command an output that works; /var/log/tklb has the log of this run"


class RestoreRefused(TklbError):
    code, message = 60, "restore refused: {reason}"
    hint = "show the plan with --dry-run; --yes confirms it without a terminal"


class Interrupted(TklbError):
    code, message = 130, "interrupted"
    hint = "repeat the command; the next backup resumes an interrupted upload"


_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM)
_OF_DISKS = (
    errno.EIO, errno.EROFS, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.EUCLEAN, errno.EBADMSG, errno.EREMOTEIO,
    errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ENOTCONN,
)  # fmt: skip


def classify_failure(exc: BaseException) -> TklbError:
    """Give the failure that an exception stands for; what nobody foresaw is an InternalError.

    A system call that names a descriptor fails as the same call by name does: it only has no path.
    """
    if isinstance(exc, TklbError):
        return exc
    if isinstance(exc, KeyboardInterrupt):
        return Interrupted()
    if isinstance(exc, MemoryError) or (isinstance(exc, OSError) and exc.errno == errno.ENOMEM):
        return NoMemory(reason=str(exc) or "an allocation failed")
    if isinstance(exc, RuntimeError) and "can't start new thread" in str(exc):
        return NoMemory(reason=str(exc))
    if isinstance(exc, OSError):
        return _classify_system_failure(exc)
    return InternalError(reason=f"{type(exc).__name__}: {exc}")


def _classify_system_failure(exc: OSError) -> TklbError:
    name = exc.filename if isinstance(exc.filename, str | bytes) else ""
    if exc.errno in _FULL:
        return NoSpace(path=name or "a file", reason=exc.strerror)
    if exc.errno in (*_REFUSED, errno.EROFS) and name:
        return AccessRefused(address=name, reason=exc.strerror)
    if exc.errno in _OF_DISKS:
        return DiskFailed(path=name or "a file", reason=exc.strerror)
    return InternalError(reason=f"{type(exc).__name__}: {exc}")

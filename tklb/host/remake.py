"""Run the commands that make something anew on this machine, and ask for what decides about them.

Takes commands; gives the reason of a failure. Changes what those commands change. Debian's tools only: dpkg's triggers
(deb-triggers(5), dpkg-trigger(1)), Postfix's maps (postmap(1), postalias(1)), and programs with fixed arguments.
"""

import contextlib
import glob
import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tklb.base.fs import read_existing
from tklb.base.process import PATH, Argument, run
from tklb.errors import ProgramFailed, ProgramMissing
from tklb.host.files.openat import is_guarded
from tklb.host.services import deny_service_starts
from tklb.model.plan import Command, RemakeFacts

# no prompt of a package's script can hang a command
_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBIAN_PRIORITY": "critical",
    "UCF_FORCE_CONFFOLD": "1",
}
_TRIGGERS = b"/var/lib/dpkg/triggers/File"
_MOST_BYTES = 1 << 20  # of a configuration file
_ENDINGS = {b"hash": b".db", b"btree": b".db", b"lmdb": b".lmdb", b"cdb": b".cdb", b"dbm": b".pag", b"sdbm": b".pag"}
_MAP = re.compile(rb"\b(%s):(/[^\s,{}]+)" % b"|".join(_ENDINGS))
_ALIASES = (b"alias_maps", b"alias_database")  # local(8) reads these, in the form of aliases(5)


class PostfixMap(NamedTuple):
    """A map that Postfix is configured with, and the program that makes it."""

    program: str
    kind: bytes
    source: bytes

    @property
    def file(self) -> bytes:
        return self.source + _ENDINGS[self.kind]


def read_remake_facts(programs: Iterable[str]) -> RemakeFacts:
    """Ask this machine what decides about the commands that make something anew. `programs` are those of interest."""
    return RemakeFacts(
        programs=frozenset(filter(_is_program, programs)),
        has_systemd=os.path.isdir("/run/systemd/system"),
        has_udev=os.path.exists("/run/udev/control"),
        rules_kernel=_rules_kernel(),
        triggers=tuple(_list_triggers()),
        maps=frozenset(source for folder in _list_postfix_folders() for source in _find_sources(folder)),
    )


def run_command(command: Command) -> str:
    """Run a command, and give the reason if it failed, or ""."""
    try:
        match command.argv[0]:
            case "dpkg-trigger":
                return _fire_triggers(command.argv[1], command)
            case "postmap":
                return _make_maps(command)
            case _:
                return _run_plain(command)
    except (ProgramMissing, ProgramFailed) as exc:
        return str(exc)


def _run_plain(command: Command) -> str:
    arguments = [path for path in command.inputs if command.takes_inputs and os.path.isfile(path)]
    if arguments or not command.takes_inputs:
        _run([*command.argv, *arguments], command.seconds)
    return ""


def _run(argv: list[Argument], seconds: float) -> bytes:
    return run(argv, environment=_ENVIRONMENT, timeout=seconds, may_leave_server=True).stdout


# ---------------------------------------------------------------- facts


def _is_program(name: str) -> bool:
    if name.startswith("/boot/"):
        return bool(glob.glob(name))
    places = [name] if "/" in name else [f"{folder}/{name}" for folder in PATH.split(":")]
    return any(os.access(place, os.X_OK) for place in places)


def _rules_kernel() -> bool:
    """Whether settings of the kernel may be changed from here: not in a chroot, nor where /proc/sys is read-only."""
    try:
        is_whole = os.path.samestat(os.stat("/"), os.stat("/proc/1/root"))
    except OSError:
        return False
    return is_whole and os.access("/proc/sys/kernel/hostname", os.W_OK)


def _list_triggers() -> Iterator[tuple[bytes, str]]:
    """Give the folders that packages registered: lines `FOLDER PACKAGE[/noawait]`."""
    for line in _read(_TRIGGERS).split(b"\n"):
        folder, _, package = line.rpartition(b" ")
        if folder.startswith(b"/") and package:
            yield folder.rstrip(b"/"), package.partition(b"/")[0].decode("ascii", "replace")


def _read(path: bytes) -> bytes:
    return read_existing(path, _MOST_BYTES)


# ---------------------------------------------------------------- dpkg's triggers


def _fire_triggers(package: str, command: Command) -> str:
    folders = {folder for folder, owner in _list_triggers() if owner == package}
    wanted = sorted(folder for folder in folders if any(_is_below(path, folder) for path in command.inputs))
    if not wanted:
        return ""  # the package is gone, or registers another folder now
    with deny_service_starts():
        for folder in wanted:
            _run(["dpkg-trigger", "--by-package=dpkg", "--no-await", folder], command.seconds)
        _run(["dpkg", "--force-confdef", "--force-confold", "--triggers-only", package], command.seconds)
    return ""


def _is_below(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder + b"/")


# ---------------------------------------------------------------- Postfix


def _list_postfix_folders() -> list[bytes]:
    """Give the folders of all instances of Postfix."""
    names = sorted(name for name in os.listdir(b"/etc") if name == b"postfix" or name.startswith(b"postfix-"))
    return [b"/etc/" + name for name in names if os.path.isfile(b"/etc/" + name + b"/main.cf")]


def _find_sources(folder: bytes) -> Iterator[bytes]:
    """Give the sources of maps that the configuration names as it stands; this starts no program."""
    for name in (b"/main.cf", b"/master.cf"):
        text = re.sub(rb"\$\{?config_directory\}?", folder, _read(folder + name))
        text = re.sub(rb"\$\{?default_database_type\}?", b"hash", text)
        yield from (source for _, source in _MAP.findall(text))


def _make_maps(command: Command) -> str:
    """Make each map whose source changed and whose file did not come, and each whose file is missing."""
    found = [(folder, each) for folder in _list_postfix_folders() for each in _list_maps(folder, command.seconds)]
    due = [(folder, each) for folder, each in found if _is_due(each, frozenset(command.inputs))]
    return "; ".join(filter(None, (_make_map(folder, each, command.seconds) for folder, each in due)))


def _has_open_place(each: PostfixMap) -> bool:
    """Whether a user could put a link in the place of the map. postmap(1) makes it as the owner of the source."""
    with contextlib.suppress(FileNotFoundError):
        return os.stat(each.source).st_uid == 0 and not is_guarded(os.path.dirname(each.source))
    return False


def _is_due(each: PostfixMap, changed: frozenset[bytes]) -> bool:
    if not os.path.isfile(each.source):
        return False
    return not os.path.exists(each.file) or (each.source in changed and each.file not in changed)


def _list_maps(folder: bytes, seconds: float) -> list[PostfixMap]:
    """Ask Postfix for the maps of an instance, with all names in their values replaced.

    A map in the form of aliases(5) may be named in other places too, such as the list of local recipients.
    """
    asked = (_run(["postconf", "-c", folder, *options], seconds) for options in (["-x"], ["-P", "-x"]))
    lines = [line.partition(b" = ") for text in asked for line in text.split(b"\n")]
    found = {(name.rpartition(b"/")[2] in _ALIASES, *each) for name, _, value in lines for each in _MAP.findall(value)}
    aliases = {source for is_alias, _, source in found if is_alias}
    return sorted(
        {PostfixMap("postalias" if source in aliases else "postmap", kind, source) for _, kind, source in found}
    )


def _make_map(folder: bytes, each: PostfixMap, seconds: float) -> str:
    argument = each.kind + b":" + each.source
    if _has_open_place(each):
        name = argument.decode("utf-8", "backslashreplace")
        return f"{name}: not made, because somebody other than root may write to the folder of this file of root"
    try:
        _run([each.program, "-c", folder, argument], seconds)
    except ProgramFailed as exc:
        return f"{argument.decode('utf-8', 'backslashreplace')}: {exc}"
    return ""

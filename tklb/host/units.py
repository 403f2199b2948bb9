"""The services that this machine has: which its next start starts, and which package and which files each belongs to.

Takes a root; reads units, links and the file lists of dpkg below it. Starts no program, changes nothing. A service has
the name of its unit without `.service`, or that of its init script.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator

from tklb.base.fs import list_existing, read_existing, read_existing_link

_UNIT_FOLDERS = (b"etc/systemd/system", b"usr/local/lib/systemd/system", b"usr/lib/systemd/system")
_SHIPPED = re.compile(
    rb"^(?:/usr)?/lib/systemd/system/([^/@\n]+\.(?:service|socket|timer|path))$|^/etc/init\.d/([^/\n]+)$", re.MULTILINE
)
_SETTINGS = re.compile(rb"^/etc/[^/\n]+(?:/.+)?$", re.MULTILINE)
_STANZA = re.compile(rb"^Package: (\S+)\n(?:.+\n)*?Status: \S+ \S+ installed\n(?:.+\n)*", re.MULTILINE)
_SOURCE = re.compile(rb"^Source: (\S+)", re.MULTILINE)
_MOST_OWNERS = 3  # a folder that more sources share says nothing about a service
_LISTS = b"var/lib/dpkg/info"
# They bring the start of the machine itself, and no service whose configuration people change.
_OF_THE_SYSTEM = frozenset(
    b"apt console-setup dpkg e2fsprogs kmod pam procps sudo systemd sysvinit util-linux xorg".split()
)
# Every package may put files into these, and their readers read them anew.
_SHARED = frozenset(
    b"/etc/" + name
    for name in b"""
    alternatives apparmor.d apparmor.d/local apt apt/apt.conf.d bash_completion.d cron.d cron.daily cron.hourly
    cron.monthly cron.weekly default init.d kernel ld.so.conf.d logcheck logrotate.d modprobe.d modules-load.d network
    opt pam.d profile.d security skel ssl sudoers.d sysctl.d systemd systemd/system systemd/user tmpfiles.d udev xdg
    """.split()
)

Owners = dict[bytes, tuple[str, ...]]
_OF_SYSTEMD: Owners = {
    b"/etc/systemd/%s.conf%s" % (name.encode(), end): (f"systemd-{name}",)
    for name in ("journald", "resolved", "timesyncd")
    for end in (b"", b".d")
}


def list_enabled(root: bytes, *, has_systemd: bool) -> frozenset[str]:
    """List the services that the next start of the machine starts.

    Where systemd is process 1 its links decide, and those of the runlevels for init scripts without a unit. Elsewhere
    the links of the runlevels decide, and systemd's for units without an init script.
    """
    units = set(_list_enabled_units(root))
    scripts = {name for level in "2345S" for name in _list_started(root, level)}
    every_script = set(_list_names(root, b"etc/init.d"))
    native = {name for folder in _UNIT_FOLDERS for name in map(_name, _list_names(root, folder))}
    masked = {name for name in _list_names(root, _UNIT_FOLDERS[0]) if _is_masked(root, name)}
    found = {b"systemd-journald", *units, *(scripts - native)} if has_systemd else scripts | (units - every_script)
    return frozenset(_text(name) for name in found - set(map(_name, masked)))


def list_scripts(root: bytes) -> frozenset[str]:
    """List the services that have an init script."""
    return frozenset(map(_text, _list_names(root, b"etc/init.d")))


def read_service_owners(root: bytes) -> tuple[dict[str, tuple[str, ...]], Owners]:
    """Give the services of each installed package, and those of each path that such packages have in /etc.

    Packages of one source belong together: the configuration of Samba is in one of them, and its service in another.
    """
    of_packages: defaultdict[str, set[str]] = defaultdict(set)
    of_sources: defaultdict[bytes, set[str]] = defaultdict(set)
    settings: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for package, source, text in _list_packages(root):
        names = {_text(_name(unit or script)) for unit, script in _SHIPPED.findall(text)}
        of_packages[_text(package)] |= names
        of_sources[source] |= names
        for path in _SETTINGS.findall(text):
            settings[path].add(source)
    of_files = _OF_SYSTEMD | {
        path: tuple(sorted({name for source in sources for name in of_sources[source]}))
        for path, sources in settings.items()
        if len(sources) <= _MOST_OWNERS and not _is_shared(path)
    }
    return {name: tuple(sorted(names)) for name, names in of_packages.items() if names}, of_files


def _is_shared(path: bytes) -> bool:
    """Whether a path is a shared folder, or a file in one, which its reader reads anew."""
    parent = path.rpartition(b"/")[0]
    return path in _SHARED or (parent in _SHARED and parent not in (b"/etc/default", b"/etc/init.d"))


def _list_packages(root: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Give each installed package, its source, and its file list."""
    lists = {name.partition(b":")[0].removesuffix(b".list"): name for name in _list_names(root, _LISTS)}
    for stanza in _STANZA.finditer(_read(root, b"var/lib/dpkg/status")):
        source = _SOURCE.search(stanza[0])
        name = source[1] if source else stanza[1]
        if name not in _OF_THE_SYSTEM and stanza[1] in lists:
            yield stanza[1], name, _read(root, _LISTS + b"/" + lists[stanza[1]])


def _list_enabled_units(root: bytes) -> Iterator[bytes]:
    folder = _UNIT_FOLDERS[0]
    for name in _list_names(root, folder):
        if name.endswith((b".wants", b".requires", b".upholds")):
            yield from map(_name, _list_names(root, folder + b"/" + name))


def _list_started(root: bytes, level: str) -> Iterator[bytes]:
    for name in _list_names(root, b"etc/rc%s.d" % level.encode()):
        if re.match(rb"S[0-9][0-9].", name):
            yield name[3:]


def _is_masked(root: bytes, name: bytes) -> bool:
    return read_existing_link(os.path.join(root, _UNIT_FOLDERS[0], name)) == b"/dev/null"


def _list_names(root: bytes, folder: bytes) -> list[bytes]:
    return list_existing(os.path.join(root, folder))


def _read(root: bytes, path: bytes) -> bytes:
    return read_existing(os.path.join(root, path))


def _name(unit: bytes) -> bytes:
    return unit.removesuffix(b".service")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")

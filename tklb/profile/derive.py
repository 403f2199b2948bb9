"""The derived install state: what the package manager knows, for machines and packages without a built profile.

Takes a root file system and packages; gives sorted entries. Reads the database of dpkg, the registries of the tools
that package scripts call (generated.py), and the metadata of the files; changes nothing.

dpkg records neither mode nor owner. A file that nobody has touched since dpkg put it into place has those of its
package. For others, and for conffiles, which come to their place later, the usual ones count: root, folders and
programs 0755, other files 0644, with the few exceptions below. Any other mode is a change by the owner. So a mode that
a package script set appears as a change of metadata, which is harmless.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping

from tklb.base.fs import open_plain
from tklb.host.dpkg import package_files
from tklb.model.files import FileEntry
from tklb.model.packages import Package
from tklb.profile.generated import list_generated

_PROGRAM, _PLAIN = 0o755, 0o644
_PROGRAMS = (b"#!", b"\x7fELF")  # how the content of a program begins
_UNPACKED_NS = 60_000_000_000  # a file in an archive is older than its place on the machine
# Paths that packages or scripts of some release give another mode or group.
_KNOWN = {
    b"/etc/credstore": (0o700, b"root"),
    b"/etc/credstore.encrypted": (0o700, b"root"),
    b"/etc/dhcp/dhclient-enter-hooks.d/resolved-enter": (0o644, b"root"),  # sourced, though it begins as a program
    b"/etc/dhcp/dhclient-exit-hooks.d/resolved": (0o644, b"root"),
    b"/etc/polkit-1/rules.d": (0o700, b"root"),
    b"/etc/security/opasswd": (0o600, b"root"),
    b"/etc/ssl/private": (0o700, b"root"),
    b"/etc/sudoers": (0o440, b"root"),
    b"/etc/sudoers.d/README": (0o440, b"root"),
    b"/root": (0o700, b"root"),
    b"/root/.ssh": (0o700, b"root"),
    b"/usr/local/share/fonts": (0o2775, b"staff"),
    b"/var/lib/private": (0o700, b"root"),
    b"/var/local": (0o2775, b"staff"),
    b"/var/mail": (0o2775, b"mail"),
    b"/var/spool/cron/crontabs": (0o1730, b"crontab"),
    b"/var/spool/rsyslog": (0o700, b"root"),
}
# Programs that packages of Debian ship with set-id bits: mode and group. An administrator may have removed the bits.
SET_ID: Mapping[bytes, tuple[int, bytes]] = {
    **dict.fromkeys(
        (
            *(
                b"/usr/bin/" + name
                for name in b"chfn chsh fusermount fusermount3 gpasswd mount newgidmap newgrp newuidmap ntfs-3g passwd "
                b"pkexec su sudo umount".split()
            ),
            *(b"/usr/sbin/" + name for name in b"exim4 mount.cifs mount.nfs".split()),
            b"/usr/lib/openssh/ssh-keysign",
            b"/usr/lib/polkit-1/polkit-agent-helper-1",
        ),
        (0o4755, b"root"),
    ),
    b"/usr/bin/chage": (0o2755, b"shadow"),
    b"/usr/bin/crontab": (0o2755, b"crontab"),
    b"/usr/bin/dotlockfile": (0o2755, b"mail"),
    b"/usr/bin/expiry": (0o2755, b"shadow"),
    b"/usr/bin/plocate": (0o2755, b"plocate"),
    b"/usr/bin/screen": (0o2755, b"utmp"),
    b"/usr/bin/ssh-agent": (0o2755, b"_ssh"),
    b"/usr/lib/dbus-1.0/dbus-daemon-launch-helper": (0o4754, b"messagebus"),
    b"/usr/sbin/postdrop": (0o2755, b"postdrop"),
    b"/usr/sbin/postqueue": (0o2755, b"postdrop"),
    b"/usr/sbin/pppd": (0o4754, b"dip"),
    b"/usr/sbin/unix_chkpwd": (0o2755, b"shadow"),
}
# What the script of iputils-ping sets where the file system has capabilities: cap_net_raw=ep
_CAPABILITIES = {
    b"/usr/bin/ping": ((b"security.capability", b"\1\0\0\2\0\x20\0\0" + bytes(12)),),
}


def derive_install_state(
    root: bytes,
    packages: Iterable[Package] | None,
    below: Iterable[bytes],
    wanted: Callable[[bytes], bool],
) -> Iterator[FileEntry]:
    """Give the wanted entries that the packages (None: all) and their scripts put below some folders. Sorted."""
    found = {entry.path: entry for entry in list_generated(root) if wanted(entry.path)}
    for entry in package_files(root, packages, below, wanted):
        found.setdefault(entry.path, entry)
    for path in list(found):
        parent = path.rpartition(b"/")[0]
        while parent and parent not in found and wanted(parent):
            found[parent] = FileEntry(parent, "dir")
            parent = parent.rpartition(b"/")[0]
    return (_add_metadata(root, found[path]) for path in sorted(found))


def _add_metadata(root: bytes, entry: FileEntry) -> FileEntry:
    """Add mode and owner: those of a package's override or of its archive, else those usual for the path or kind."""
    plain = entry._replace(xattrs=(), ctime_ns=None)
    if entry.mode is not None:
        return plain
    owned = plain._replace(uid=0, uname=b"root", gid=0, gname=b"root", xattrs=_CAPABILITIES.get(entry.path, ()))
    if entry.path in SET_ID:
        mode, gname = SET_ID[entry.path]
        return owned._replace(mode=mode, gid=0 if gname == b"root" else None, gname=gname)
    if entry.kind == "link":
        return owned
    place = os.path.join(root, entry.path.lstrip(b"/"))
    try:
        found = os.lstat(place)
    except OSError:
        found = None
    if found and entry.ctime_ns and _is_as_unpacked(found, entry.ctime_ns):
        return plain._replace(mode=stat.S_IMODE(found.st_mode), uid=found.st_uid, gid=found.st_gid)
    known, gname = _KNOWN.get(entry.path, (None, b"root"))
    is_bare = found is not None and found.st_gid == 0 and stat.S_IMODE(found.st_mode) == _PROGRAM
    if known is not None and not (gname != b"root" and is_bare):  # some releases give these folders no group
        return owned._replace(mode=known, gid=0 if gname == b"root" else None, gname=gname)
    is_usual = found is not None and found.st_gid == 0 and stat.S_IMODE(found.st_mode) in (_PROGRAM, _PLAIN)
    if entry.kind != "dir" and is_usual and not entry.path.startswith(b"/etc/"):
        return owned._replace(mode=stat.S_IMODE(found.st_mode) if found else None)
    return owned._replace(mode=_PROGRAM if entry.kind == "dir" or _is_program(place) else _PLAIN)


def _is_as_unpacked(found: os.stat_result, placed: int) -> bool:
    """Whether nothing touched a file since dpkg put it into place. A copied file has no time of its archive."""
    return found.st_ctime_ns <= placed and found.st_mtime_ns < found.st_ctime_ns - _UNPACKED_NS


def _is_program(place: bytes) -> bool:
    try:
        with open_plain(place) as stream:
            return stream.read(4).startswith(_PROGRAMS)
    except OSError:
        return False

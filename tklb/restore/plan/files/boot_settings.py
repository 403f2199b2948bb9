"""Settings of GRUB and of the initramfs that make sense on another machine: those that name no disk. Pure.

A restore keeps how this machine starts. A choice of the owner such as a timeout, a kernel option or a module is no part
of that. It comes back where this machine has GRUB or initramfs-tools itself, and their programs make the rest.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from tklb.restore.plan.remake import GRUB, INITRAMFS

INITRAMFS_TOOLS = b"/etc/initramfs-tools"
# What is read: a setting may name a disk.
BOOT_FOLDERS = (b"/etc/default", b"/etc/default/grub.d", b"/etc/grub.d", INITRAMFS_TOOLS + b"/conf.d")
_GRUB = re.compile(rb"/etc/(?:default/grub(?:\.d(?:/[^/]+)?)?|grub\.d(?:/[^/]+)?)")
_DISK = re.compile(
    rb"^[^#\n]*(?:(?:PART)?UUID=[\"']?[0-9A-Fa-f]{4}[0-9A-Fa-f-]|LABEL=[\"']?\w|--fs-uuid[^\n]* [0-9A-Fa-f]{4,}-?"
    rb"|/dev/(?:(?:[svh]|xv)d[a-z]|nvme\d|mmcblk\d|md\d|mapper/[\w]|disk/|dm-\d)|\(hd\d|/dev/[\w.-]+/[\w.-]+)",
    re.MULTILINE,
)


def is_boot_setting(path: bytes) -> bool:
    return _GRUB.fullmatch(path) is not None or path.startswith(INITRAMFS_TOOLS + b"/")


def find_portable(
    paths: Iterable[bytes], contents: Mapping[bytes, bytes], programs: AbstractSet[str]
) -> Iterator[bytes]:
    """Give the settings that come back. `contents` has the files in BOOT_FOLDERS; `programs` are those of here."""
    has_grub, has_initramfs = "update-grub" in programs and GRUB in programs, INITRAMFS in programs
    for path in paths:
        has_reader = has_grub if _GRUB.fullmatch(path) else has_initramfs
        is_read = path in contents or path.rpartition(b"/")[0] not in BOOT_FOLDERS
        if has_reader and is_read and not _DISK.search(contents.get(path, b"")):
            yield path

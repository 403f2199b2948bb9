"""Packages that the owner added, removed or changed, those that stay with their machine, and the order of versions.

Takes sets of installed packages; gives a PackageDelta. Pure. A package has its name as key; one of a
foreign architecture is `name:architecture`, as dpkg prints it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cmp_to_key
from itertools import zip_longest

from tklb.model.packages import Package, PackageDelta

# Debian Policy 5.6.1, 5.6.7 and 5.6.12, and the underscore that dpkg still takes.
NAME = re.compile(r"[a-z0-9][a-z0-9+._-]+")
ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9-]*")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~_-]*")

Key = tuple[str, str]  # name, foreign architecture or ""

# Packages that depend on the hardware or on how it boots. The patterns match whole names.
_BOUND_TO_THE_MACHINE = {
    "a kernel": (
        r"linux-(image|headers|modules|kbuild|support|compiler|config|base|generic|virtual|buildinfo|tools)(-.*)?",
        r"(pve|proxmox|raspberrypi|raspi)-(kernel|headers|firmware|bootloader)(-.*)?",
        r".*-(modules|kmod)-[0-9][0-9.]*-[0-9].*",
        r".*-dkms",
        r"(initramfs-tools|dracut|tiny-initramfs)(-.*)?",
    ),
    "a boot loader": (
        r"(grub|grub2|shim|lilo|elilo|syslinux|extlinux|isolinux|u-boot|refind|systemd-boot)(-.*)?",
        r"flash-kernel|efibootmgr|efivar|libefi(boot|var)1(t64)?|mokutil|os-prober|memtest86(\+)?|sbsigntool",
    ),
    "firmware": (r"(.+-)?firmware(-.*)?", r"(amd64|intel)-microcode", r"iucode-tool", r"fwupd(-.*)?"),
    "for this machine's hardware": (
        r"nvidia-.*|libnvidia-.*|xserver-xorg-(video|input)-.*",
        r"(open-vm-tools|virtualbox-guest|qemu-guest-agent|hyperv-daemons|xe-guest-utilities|spice-vdagent)(-.*)?",
    ),
}
_BOUND = tuple((reason, re.compile("|".join(patterns))) for reason, patterns in _BOUND_TO_THE_MACHINE.items())


def is_bound_to_machine(name: str) -> str | None:
    """Give the reason why a package stays with its machine (kernel, boot loader, firmware, hardware), or None."""
    return next((reason for reason, pattern in _BOUND if pattern.fullmatch(name)), None)


# ---------------------------------------------------------------- the packages form


def format_packages(packages: Iterable[Package]) -> bytes:
    """Write one package a line, sorted: `name version architecture auto|manual [hold]`, separated by tabs."""
    return b"".join(_format_package(package) for package in sorted(packages))


def _format_package(package: Package) -> bytes:
    words = [package.name, package.version, package.architecture, "auto" if package.auto else "manual"]
    return "\t".join([*words, "hold"] if package.held else words).encode() + b"\n"


def parse_packages(text: bytes) -> tuple[Package, ...]:
    """Read the packages form; the order and the width of white space do not matter. Sorted.

    Raises ValueError with the number of the line: wrong fields, names that dpkg refuses, the same package twice.
    """
    found: dict[tuple[str, str], Package] = {}
    for number, line in enumerate(text.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            package = _parse_package(line.decode("ascii").split())
        except ValueError as exc:
            reason = "not ASCII" if isinstance(exc, UnicodeDecodeError) else exc
            raise ValueError(f"line {number}: {reason}") from exc
        if found.setdefault((package.name, package.architecture), package) is not package:
            raise ValueError(f"line {number}: {package.name} {package.architecture} appears twice")
    return tuple(sorted(found.values()))


def _parse_package(words: list[str]) -> Package:
    if not 4 <= len(words) <= 5:
        raise ValueError("it is not `name version architecture auto|manual [hold]`")
    name, version, architecture, mark = words[:4]
    for noun, pattern, word in (
        ("package name", NAME, name),
        ("version", _VERSION, version),
        ("architecture", ARCHITECTURE, architecture),
    ):
        if not pattern.fullmatch(word):
            raise ValueError(f"{word!r} is not a valid {noun}")
    if mark not in ("auto", "manual"):
        raise ValueError(f"{mark!r} is neither auto nor manual")
    if words[4:] not in ([], ["hold"]):
        raise ValueError(f"{words[4]!r} is not hold")
    return Package(name, version, architecture, mark == "auto", bool(words[4:]))


# ---------------------------------------------------------------- difference


def native_architecture(packages: Iterable[Package]) -> str:
    """Give the architecture of the machine: that of dpkg itself, else the most frequent one; "" if there is none."""
    counted: Counter[str] = Counter()
    for package in packages:
        if package.name == "dpkg":
            return package.architecture
        counted[package.architecture] += package.architecture != "all"
    return max(sorted(counted), key=lambda name: counted[name], default="") if counted.total() else ""


def key_of(package: Package, native: str) -> Key:
    """Give the key of a package in two sets: an upgrade may turn `all` into the native architecture."""
    return package.name, "" if package.architecture in ("all", native) else package.architecture


def label(package: Package, native: str) -> str:
    """Give the name for people and apt: `name`, or `name:architecture` for a foreign package."""
    return ":".join(filter(None, key_of(package, native)))


def diff_packages(base: tuple[Package, ...], now: tuple[Package, ...]) -> PackageDelta:
    """Give the packages that the owner added to the install state, removed from it or changed."""
    native = native_architecture(now) or native_architecture(base)
    before = {key_of(package, native_architecture(base) or native): package for package in base}
    after = {key_of(package, native): package for package in now}
    both = [(before[key], after[key]) for key in sorted(before.keys() & after.keys())]
    return PackageDelta(
        added=tuple(after[key] for key in sorted(after.keys() - before.keys())),
        removed=tuple(before[key] for key in sorted(before.keys() - after.keys())),
        upgraded=tuple((old, new) for old, new in both if old.version != new.version),
        marked=tuple((old, new) for old, new in both if old.version == new.version and _marks(old) != _marks(new)),
    )


def _marks(package: Package) -> tuple[bool, bool]:
    return package.auto, package.held


def delta_names(delta: PackageDelta, native: str) -> Mapping[str, object]:
    """Give the delta as names, for JSON. `held` are newly held; `versions` maps upgraded names to both versions."""
    pairs = (*delta.upgraded, *delta.marked)
    held = [now for base, now in pairs if now.held and not base.held] + [now for now in delta.added if now.held]
    return {
        "added": [label(package, native) for package in delta.added],
        "removed": [label(package, native) for package in delta.removed],
        "upgraded": [label(now, native) for _, now in delta.upgraded],
        "marked": [label(now, native) for _, now in delta.marked],
        "held": sorted(label(package, native) for package in held),
        "versions": {label(now, native): [base.version, now.version] for base, now in delta.upgraded},
    }


# ---------------------------------------------------------------- versions

_PARTS = re.compile(r"([^0-9]*)([0-9]*)")
Part = tuple[tuple[int, ...], tuple[int, str]]  # order of the signs before a number, and the number
_END: Part = ((0,), (0, ""))


def compare_versions(one: str, other: str) -> int:
    """Give -1, 0 or 1 as `one` is older than `other`, equal to it or newer: deb-version(7), as dpkg compares."""
    texts = zip(_split_version(one), _split_version(other), strict=True)
    parts = (pair for left, right in texts for pair in zip_longest(_order(left), _order(right), fillvalue=_END))
    different = next((pair for pair in parts if pair[0] != pair[1]), (_END, _END))
    return (different[0] > different[1]) - (different[0] < different[1])


def _split_version(version: str) -> tuple[str, str, str]:
    """Give epoch, upstream version and revision. An absent epoch or revision counts as 0."""
    epoch, colon, rest = version.partition(":")
    rest = rest if colon else version
    upstream, hyphen, revision = rest.rpartition("-")
    return epoch if colon else "0", upstream if hyphen else rest, revision if hyphen else "0"


def _order(text: str) -> list[Part]:
    return [(_order_signs(signs), _order_number(number)) for signs, number in _PARTS.findall(text)]


def _order_signs(signs: str) -> tuple[int, ...]:
    """Letters come before other signs, and `~` comes before the end."""
    return (*(-1 if sign == "~" else ord(sign) + (0 if sign.isalpha() else 256) for sign in signs), 0)


def _order_number(number: str) -> tuple[int, str]:
    digits = number.lstrip("0")
    return len(digits), digits


def choose_version(wanted: str, offered: Iterable[str], candidate: str, *, held: bool) -> str | None:
    """Give the offered version to ask apt for; None if its candidate is right, or if none is better.

    `wanted` is the version on the backed-up machine. A held package comes in that very version. Any other one is not to
    become older: if the candidate is older, the next newer version is chosen, such as one of backports.
    """
    versions = set(offered)
    if not wanted or wanted == candidate:
        return None
    if held and wanted in versions:
        return wanted
    if candidate and compare_versions(candidate, wanted) >= 0:
        return None
    newer = (version for version in versions if compare_versions(version, wanted) >= 0)
    return min(newer, key=cmp_to_key(compare_versions), default=None)

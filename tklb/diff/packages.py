"""Packages that the owner added, removed or changed, and the plan for them on another machine.

Takes sets of installed packages; gives a PackageDelta or a PackagePlan. Pure. A package has its name as key; one of a
foreign architecture is `name:architecture`, as dpkg prints it.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tklb.model.packages import Package, PackageDelta
from tklb.model.report import Skipped

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
        r".*-(modules|kmod)-[0-9].*",
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


def select(delta: PackageDelta, wanted: Callable[[str], bool]) -> PackageDelta:
    """Give the part of a delta whose names are wanted."""
    return PackageDelta(
        tuple(package for package in delta.added if wanted(package.name)),
        tuple(package for package in delta.removed if wanted(package.name)),
        tuple(pair for pair in delta.upgraded if wanted(pair[1].name)),
        tuple(pair for pair in delta.marked if wanted(pair[1].name)),
    )


# ---------------------------------------------------------------- for the restore


@dataclass(frozen=True, slots=True)
class PackagePlan:
    """The steps of a restore for packages. Names in the form of apt (`name` or `name:architecture`), sorted."""

    install: tuple[str, ...] = ()  # missing here; the sources of this machine decide the version
    marks: tuple[tuple[str, bool, bool], ...] = ()  # name, auto, held: as on the backed-up machine
    removals: tuple[str, ...] = ()  # installed here, removed there: shown, and removed only on request
    bound: tuple[tuple[str, str], ...] = ()  # name and reason why it stays with its machine, such as a kernel
    left_out: tuple[Skipped, ...] = ()  # packages that no source offers


def plan_packages(
    delta: PackageDelta, present: tuple[Package, ...], native: str, unavailable: frozenset[str] = frozenset()
) -> PackagePlan:
    """Plan how to bring `delta` onto a machine where `present` is installed.

    `native` is the architecture of the backed-up machine: its native packages are this machine's native ones.
    `unavailable` are labels that no source offered there; their files travel as files.
    """
    here = {label(package, native_architecture(present) or native): package for package in present}
    wanted = {label(package, native): package for package in _list_owner_choices(delta)}
    added = {label(package, native) for package in delta.added}
    bound = {name: why for name, package in wanted.items() if (why := is_bound_to_machine(package.name))}
    install = sorted((added & wanted.keys()) - here.keys() - bound.keys() - unavailable)
    removed = {label(package, native) for package in delta.removed if not is_bound_to_machine(package.name)}
    return PackagePlan(
        install=tuple(install),
        marks=tuple(
            (name, package.auto, package.held)
            for name, package in sorted(wanted.items())
            if name not in bound and _marks_differ(package, here.get(name), name in install)
        ),
        removals=tuple(sorted(removed & here.keys())),
        bound=tuple((name, why) for name, why in sorted(bound.items()) if name in added and name not in here),
        left_out=tuple(
            Skipped(f"package:{name}".encode(), "no package source offers it; its files are restored as files")
            for name in sorted((added & unavailable) - here.keys() - bound.keys())
        ),
    )


def _list_owner_choices(delta: PackageDelta) -> Iterable[Package]:
    """Give the packages whose marks the owner chose: added ones, and those with changed marks."""
    yield from delta.added
    yield from (now for base, now in (*delta.upgraded, *delta.marked) if _marks(base) != _marks(now))


def _marks_differ(wanted: Package, here: Package | None, installing: bool) -> bool:
    if here is None:
        return installing
    return _marks(wanted) != _marks(here)

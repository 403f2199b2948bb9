"""The services of a plan: which are restarted or started, when, and which only a start of the machine brings. Pure.

A service is the restore's business where its profile lists it, where the restore installs its package, or writes its
unit, its init script, its enablement or its configuration. Only an enabled service is started: one that is disabled or
masked stays so. Where no init system runs, as in a chroot or a container, running services restart, and those that came
are listed.
"""

import re
from collections.abc import Callable, Iterable, Iterator

from tklb.errors import printable
from tklb.model.databases import ENGINES
from tklb.model.plan import COMING, ServiceFacts, Step, StepKind
from tklb.restore.plan.inputs import PlanInputs
from tklb.restore.plan.part import PlanPart

_FOLDERS = rb"/(?:etc|usr/local/lib|usr/lib|lib)/systemd/system/"
_UNIT = rb"([^/]+\.(?:service|socket|timer|path))"
_ENABLEMENT = re.compile(rb"/etc/systemd/system/[^/]+\.(?:wants|requires|upholds)/" + _UNIT)
_UNIT_FILE = re.compile(_FOLDERS + _UNIT + rb"(?:\.d/.*)?")
_ANY_RUNLEVEL_LINK = re.compile(rb"(/etc/rc[0-6S]\.d/)[SK][0-9][0-9]([^/]+)")
_RUNLEVEL_LINK = re.compile(rb"/etc/rc[2-5S]\.d/S[0-9][0-9]([^/]+)")
_INIT_SCRIPT = re.compile(rb"/etc/init\.d/([^/]+)")
_TOPS = (b"/etc/", b"/usr/", b"/lib/")
_GOES = (StepKind.MOVE, StepKind.DELETE)
_FILE_KINDS = (StepKind.WRITE, StepKind.LINK, StepKind.METADATA, *_GOES)
# A restart may end the session of the one who restores, or the network under it.
_CUTTING = re.compile(
    r"networking|NetworkManager|systemd-(networkd|logind)|wpa_supplicant|dbus|(serial-)?getty@.*|(x|gd|sd|lx|light)dm3?"
)
NOT_STARTED = "not started: "
_LINGER = b"/var/lib/systemd/linger/"
_OTHER_UNITS = (".socket", ".timer", ".path", ".target", ".mount")
_USER_UNIT = re.compile(
    rb"(?:(/.+)/\.config/systemd/user|/etc/systemd/user)/[^/]+\.(?:wants|requires|upholds)/([^/]+)", re.DOTALL
)
_NULL = b"/dev/null"  # a unit that is a link to it is masked
_OF_DATABASES = frozenset(service.encode() for engine in ENGINES.values() for service in engine.services)

Reasons = dict[str, str]  # of services, in the order in which they restart


def plan_services(restore: PlanInputs, steps: tuple[Step, ...]) -> tuple[PlanPart, PlanPart]:
    """Give the restarts of database servers, and those of all other services. No steps need no restart."""
    here, listed = restore.here.services, restore.saved.contents.machine.services
    if not (steps or here.new_packages or here.unfinished):
        return PlanPart(), PlanPart()
    came, reasons = _give_reasons(here, steps)
    reasons = {**dict.fromkeys(listed, ""), **reasons, **came}
    if restore.choice.is_limited:
        names = ", ".join(reasons)
        warning = f"not restarted, because the restore is limited: {names}"
        return PlanPart(warnings=(warning,) if names else ()), PlanPart()
    cutting = [name for name in reasons if _CUTTING.fullmatch(name) and name not in listed]
    reasons = {name: why for name, why in reasons.items() if name not in cutting}
    idle = () if here.can_start else tuple(n for n in reasons if n not in listed and not here.is_running(n))
    chosen = [Step(StepKind.SERVICE, name.encode(), why) for name, why in reasons.items() if name not in idle]
    servers = tuple(step for step in chosen if step.item in _OF_DATABASES)
    others = tuple(step for step in chosen if step.item not in _OF_DATABASES)
    packages = not here.can_start and any(step.kind in COMING for step in steps)
    unstarted = [_spell(name, here) for name in idle if name in came]
    warnings = (*_describe_idle(unstarted, cutting, packages_come=packages), *_describe_next_start(steps))
    return PlanPart(servers), PlanPart(others, warnings)


def is_runlevel_link(path: bytes) -> bool:
    """Whether a path says that a runlevel starts or stops a service."""
    return _ANY_RUNLEVEL_LINK.fullmatch(path) is not None


def find_replaced_links(brought: Iterable[bytes], list_names: Callable[[bytes], Iterable[bytes]]) -> Iterator[bytes]:
    """Give the links here that say otherwise than the `brought` ones about the same service in the same runlevel.

    A new package enables its service in each runlevel. Where the snapshot stops the service in one of them, its link
    has another name than that of the package, and the service would stay enabled.
    """
    known = frozenset(brought)
    decided = {match.groups() for path in known if (match := _ANY_RUNLEVEL_LINK.fullmatch(path))}
    folders = sorted({folder for folder, _ in decided})
    present = (folder + name for folder in folders for name in list_names(folder.rstrip(b"/")))
    found = (_ANY_RUNLEVEL_LINK.fullmatch(path) for path in present if path not in known)
    return (match[0] for match in found if match and match.groups() in decided)


def _describe_idle(names: list[str], cutting: list[str], *, packages_come: bool) -> Iterator[str]:
    if cutting:
        yield f"not restarted, because that may end your session: {', '.join(cutting)}; restart this machine"
    if names:
        yield f"{NOT_STARTED}{', '.join(names)}: start them, or restart this machine (no init system runs here)"
    if packages_come:
        yield "no init system runs here: the restore lists the services of new packages at its end"


def _is_brought_link(step: Step) -> bool:
    return step.kind in (StepKind.WRITE, StepKind.LINK) and step.entry is not None and step.entry.kind == "link"


def _describe_next_start(steps: tuple[Step, ...]) -> Iterator[str]:
    """Name what only a later start runs: rc.local, services of users that may linger, and enabled units of users."""
    brought = [step.item for step in steps if step.kind is StepKind.WRITE]
    names = ["/etc/rc.local"] if b"/etc/rc.local" in brought else []
    names += [f"services of {printable(path[len(_LINGER) :])}" for path in brought if path.startswith(_LINGER)]
    if names:
        yield f"runs at the next start of this machine: {', '.join(names)}"
    units = [found for step in steps if _is_brought_link(step) and (found := _USER_UNIT.fullmatch(step.item))]
    for home in dict.fromkeys(found[1] for found in units):
        own = sorted({printable(found[2]) for found in units if found[1] == home})
        whose = f"the user of {printable(home)}" if home else "any user"
        yield f"starts at the next login of {whose}, or with this machine if lingering: {', '.join(own)}"


def _spell(name: str, here: ServiceFacts) -> str:
    """Give the name that people use to start a service."""
    return name if name in here.scripts or name.endswith(_OTHER_UNITS) else f"{name}.service"


def _give_reasons(here: ServiceFacts, steps: tuple[Step, ...]) -> tuple[Reasons, Reasons]:
    """Give the enabled services that come with the restore, and those that it only touches."""
    enabled = _find_enabled(steps, here)
    came, touched = {**_find_new(here)}, dict.fromkeys(here.unfinished, "an earlier restore did not restart it")
    for step in (step for step in steps if step.kind in _FILE_KINDS):
        if name := _find_unit(step.item):
            came.setdefault(name, f"for {printable(step.item)}")
        else:
            touched |= {name: f"for {printable(step.item)}" for name in _find_configured(step.item, here)}
    return (
        {name: why for name, why in sorted(came.items()) if name in enabled},
        {name: why for name, why in sorted(touched.items()) if name in enabled or name in here.unfinished},
    )


def _find_enabled(steps: Iterable[Step], here: ServiceFacts) -> frozenset[str]:
    """Give what the next start of the machine starts once these steps are done."""
    enabled = set(here.enabled)
    for step in (step for step in steps if step.kind in _FILE_KINDS):
        is_link = step.entry is not None and step.entry.kind == "link" and step.kind in (StepKind.WRITE, StepKind.LINK)
        found = _ENABLEMENT.fullmatch(step.item) or _RUNLEVEL_LINK.fullmatch(step.item)
        if found and is_link:
            enabled.add(_name(found[1]))
        elif found and step.kind in _GOES:
            enabled.discard(_name(found[1]))
        elif is_link and step.entry and step.entry.link == _NULL and (unit := _UNIT_FILE.fullmatch(step.item)):
            enabled.discard(_name(unit[1]))
    return frozenset(enabled)


def _find_new(here: ServiceFacts) -> Reasons:
    return {
        name: f"of the new package {package}"
        for package in here.new_packages
        for name in here.of_packages.get(package, ())
    }


def _find_unit(path: bytes) -> str | None:
    """Give the service whose unit, drop-in, init script or enablement a path is."""
    patterns = (_ENABLEMENT, _UNIT_FILE, _RUNLEVEL_LINK, _INIT_SCRIPT)
    found = next((match for pattern in patterns if (match := pattern.fullmatch(path))), None)
    return _name(found[1]) if found and path.startswith(_TOPS) else None


def _find_configured(path: bytes, here: ServiceFacts) -> tuple[str, ...]:
    """Give the services of the packages that own a path of /etc, or the nearest folder above it."""
    while path.startswith(b"/etc/"):
        if (names := here.of_files.get(path)) is not None:
            return names
        path = path.rpartition(b"/")[0]
    return ()


def _name(unit: bytes) -> str:
    return unit.removesuffix(b".service").decode("utf-8", "replace")

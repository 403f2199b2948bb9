"""What a restore makes anew: the table *changed files -> command*, and the steps that follow from it. Pure.

Takes the file steps of a plan and the facts about this machine; gives a step for each command, in the order of the
table. Caches, maps and indexes are not restored, or are those of another machine: Debian's own tools make them from the
files that came. A command runs only where one of its inputs changes, and not where its output comes back itself.

The table has what no package does by itself. The rest is dpkg's own table: a package registers the folders whose
changes it wants to know (deb-triggers(5)), for man pages, fonts, icons, MIME types, schemas, modules and more. dpkg
does not see what tklb writes, so a step activates the trigger and lets dpkg process it.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from enum import StrEnum

from tklb.diff.packages import is_bound_to_machine
from tklb.errors import printable
from tklb.lazy_dataclass import dataclass
from tklb.model.plan import Command, RemakeFacts, Step, StepKind
from tklb.model.report import Skipped
from tklb.restore.plan.part import PlanPart, join_parts

GRUB, INITRAMFS = "/boot/grub/grub.cfg", "/boot/initrd.img-*"  # there where a machine starts by itself
_MAP_ENDINGS = (b".db", b".lmdb", b".cdb", b".pag")
_MOST_INPUTS = 1000  # changed files that a command is given, or that decide what it does
_GOES = (StepKind.MOVE, StepKind.DELETE)
_FILE_KINDS = (StepKind.WRITE, StepKind.LINK, StepKind.METADATA, *_GOES)


class Need(StrEnum):
    """What a machine must have so that a command makes sense on it. Without it the result has no reader there."""

    NOTHING = "nothing"
    PROGRAM = "its program"
    SYSTEMD = "systemd as process 1"
    UDEV = "a running udev"
    KERNEL = "a kernel of its own"


@dataclass(frozen=True, slots=True)
class Remake:
    """A row of the table. `inputs` and `outputs` are paths with all below; see _compile() for their signs.

    `programs` are alternatives: the first that is installed runs. Need.NOTHING: without the program, the files that
    came have no effect, so the restore reports it. `marker` is the program or the file that must be there, if it is not
    the program that runs. `takes_inputs`: the changed files are its arguments, but for those whose output comes too
    (same stem).
    """

    name: str
    programs: tuple[tuple[str, ...], ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    need: Need = Need.PROGRAM
    marker: str = ""
    takes_inputs: bool = False
    seconds: int = 600


TABLE = (
    Remake(
        "ldconfig",
        (("ldconfig",),),
        ("/etc/ld.so.conf", "/etc/ld.so.conf.d", "**.so", "**.so.#"),
        need=Need.NOTHING,
    ),
    Remake(
        "locale-gen",
        (("locale-gen", "--keep-existing"),),  # servers of this machine may run with others
        ("/etc/locale.gen",),
        need=Need.NOTHING,
        seconds=3600,
    ),
    Remake(
        "locale-gen of all",
        (("locale-gen",),),
        ("/usr/local/share/i18n", "/usr/share/i18n"),
        need=Need.NOTHING,
        seconds=3600,
    ),
    Remake(
        "update-ca-certificates",
        (("update-ca-certificates",),),
        (
            "/etc/ca-certificates.conf", "/etc/ca-certificates/update.d", "/usr/local/share/ca-certificates",
            "/usr/share/ca-certificates",
        ),
        outputs=("/etc/ssl/certs/ca-certificates.crt",),
        need=Need.NOTHING,
    ),
    Remake(
        "systemd-sysusers",
        (("systemd-sysusers",),),
        ("/etc/sysusers.d/*.conf", "/usr/local/lib/sysusers.d/*.conf", "/usr/lib/sysusers.d/*.conf"),
        takes_inputs=True,
    ),
    Remake(
        "systemd-tmpfiles",
        (("systemd-tmpfiles", "--create"),),
        ("/etc/tmpfiles.d/*.conf", "/usr/local/lib/tmpfiles.d/*.conf", "/usr/lib/tmpfiles.d/*.conf"),
        takes_inputs=True,
    ),
    Remake(
        "sysctl",
        (("sysctl", "--system"), ("/usr/lib/systemd/systemd-sysctl",)),
        ("/etc/sysctl.conf", "/etc/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"),
        need=Need.KERNEL,
    ),
    Remake(
        "systemctl daemon-reload",
        (("systemctl", "daemon-reload"),),
        (
            "/etc/systemd/system", "/etc/systemd/system.conf", "/etc/systemd/system.conf.d", "/etc/init.d",
            "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system",
        ),
        need=Need.SYSTEMD,
    ),
    Remake(
        "systemd-hwdb",
        (("systemd-hwdb", "--usr", "update"),),
        ("/etc/udev/hwdb.d", "/usr/lib/udev/hwdb.d", "/lib/udev/hwdb.d"),
        outputs=("/etc/udev/hwdb.bin",),
    ),
    Remake(
        "udevadm control",
        (("udevadm", "control", "--reload"),),
        ("/etc/udev/rules.d", "/usr/local/lib/udev/rules.d", "/usr/lib/udev/rules.d", "/etc/udev/hwdb.d"),
        need=Need.UDEV,
    ),
    Remake(
        "newaliases",
        (("newaliases",),),
        ("/etc/aliases", "/etc/mail/aliases"),
        outputs=("/etc/aliases.*", "/etc/mail/aliases.*"),
    ),
    Remake("postmap", (("postmap",),), ("/etc/postfix", "/etc/postfix-*"), need=Need.NOTHING),
    Remake("update-exim4.conf", (("update-exim4.conf",),), ("/etc/exim4",)),
    Remake(
        "sendmail maps",
        (("make", "-s", "-C", "/etc/mail"),),
        ("/etc/mail",),
        outputs=("/etc/mail/*.db",),
        marker="sendmailconfig",
    ),
    Remake(
        "sievec",
        (("sievec",),),
        ("/etc/dovecot/**.sieve", "/usr/local/lib/dovecot/**.sieve"),
        outputs=("/etc/dovecot/**.svbin", "/usr/local/lib/dovecot/**.svbin"),
        takes_inputs=True,
    ),
    Remake("dconf", (("dconf", "update"),), ("/etc/dconf/db/*.d",), outputs=("/etc/dconf/db/+",)),
    Remake(
        "update-mime-database",
        (("update-mime-database", "/usr/local/share/mime"),),
        ("/usr/local/share/mime/packages",),
        outputs=("/usr/local/share/mime/mime.cache",),
    ),
    Remake(
        "update-desktop-database",
        (("update-desktop-database", "-q", "/usr/local/share/applications"),),
        ("/usr/local/share/applications/**.desktop",),
        outputs=("/usr/local/share/applications/mimeinfo.cache",),
    ),
    Remake(
        "glib-compile-schemas",
        (("glib-compile-schemas", "/usr/local/share/glib-2.0/schemas"),),
        ("/usr/local/share/glib-2.0/schemas/*.xml", "/usr/local/share/glib-2.0/schemas/*.override"),
        outputs=("/usr/local/share/glib-2.0/schemas/gschemas.compiled",),
    ),
    Remake(
        "gtk-update-icon-cache",
        (("gtk-update-icon-cache", "-q", "-f", "-t", "/usr/local/share/icons/hicolor"),),
        ("/usr/local/share/icons/hicolor",),
        outputs=("/usr/local/share/icons/hicolor/icon-theme.cache",),
    ),
    Remake("fc-cache", (("fc-cache", "-s"),), ("/etc/fonts", "/usr/local/share/fonts", "/usr/share/fonts")),
    Remake(
        "mktexlsr", (("mktexlsr", "/usr/local/share/texmf"),), ("/usr/local/share/texmf",),
        outputs=("/usr/local/share/texmf/ls-R",),
    ),
    Remake("nscd", (("nscd", "-i", "hosts"),), ("/etc/hosts",)),
    Remake(
        "update-initramfs",
        (("update-initramfs", "-u", "-k", "all"),),
        ("/etc/initramfs-tools", "/etc/modprobe.d", "/etc/modules", "/etc/modules-load.d"),
        marker=INITRAMFS,
        seconds=3600,
    ),
    Remake(
        "update-grub", (("update-grub",),), ("/etc/default/grub", "/etc/default/grub.d", "/etc/grub.d"),
        outputs=(GRUB,), marker=GRUB, seconds=1800,
    ),
)  # fmt: skip
PROGRAMS = frozenset(name for row in TABLE for name in (row.marker, *(argv[0] for argv in row.programs)) if name)


def plan_remakes(steps: Iterable[Step], here: RemakeFacts, *, installs: bool) -> PlanPart:
    """Plan the commands whose inputs these steps change. `installs`: packages, and so programs, may still come.

    A command that an earlier restore left unfinished runs too.
    """
    changed = _sort_changes(steps, here)
    rows = join_parts(_plan_row(row, changed[row.name], here, installs) for row in TABLE if row.name in changed)
    commands = (*rows.steps, *_plan_triggers(changed, here))
    planned = {step.item for step in commands}
    late = (_make_late_step(command) for command in here.unfinished if command.name.encode() not in planned)
    return PlanPart((*commands, *late), rows.warnings, rows.skipped)


def command_item(name: str) -> bytes:
    """Give the name of a command as a skipped item."""
    return b"command:" + name.encode()


def _plan_row(row: Remake, inputs: tuple[bytes, ...], here: RemakeFacts, installs: bool) -> PlanPart:
    argv = next((argv for argv in row.programs if argv[0] in here.programs), None)
    is_there = argv is not None and (not row.marker or row.marker in here.programs)
    if row.need is Need.KERNEL and not here.rules_kernel:
        reason = "this machine may not change the settings of its kernel now"
        return PlanPart(warnings=(f"{_name(inputs)} takes effect at the next start: {reason}",))
    if not _is_sensible(row.need, here, is_there=is_there):
        return PlanPart()
    if not is_there and not installs:
        reason = f"{row.programs[0][0]} is not installed here, and {_name(inputs)} has no effect without it"
        return PlanPart(skipped=(Skipped(command_item(row.name), reason),))
    command = Command(row.name, argv or row.programs[0], inputs, row.takes_inputs, row.seconds)
    return PlanPart((Step(StepKind.RUN, row.name.encode(), f"for {_name(inputs)}", command=command),))


def _is_sensible(need: Need, here: RemakeFacts, *, is_there: bool) -> bool:
    """Whether a reader of the result can be on this machine."""
    return {
        Need.NOTHING: True,
        Need.PROGRAM: is_there,
        Need.SYSTEMD: here.has_systemd,
        Need.UDEV: here.has_udev and is_there,
        Need.KERNEL: here.rules_kernel,
    }[need]


def _make_late_step(command: Command) -> Step:
    return Step(StepKind.RUN, command.name.encode(), "an earlier restore did not finish it", command=command)


def _name(inputs: tuple[bytes, ...]) -> str:
    rest = len(inputs) - 1
    return printable(inputs[0]) + (f" and {rest} more" if rest else "")


# ---------------------------------------------------------------- which inputs change


def _sort_changes(steps: Iterable[Step], here: RemakeFacts) -> dict[str, tuple[bytes, ...]]:
    """Give the changed inputs of each row and of each package's triggers; none where the output comes itself."""
    found: defaultdict[str, list[bytes]] = defaultdict(list)
    made: defaultdict[str, set[bytes]] = defaultdict(set)
    triggers = _TriggerSearch(here)
    for step in (step for step in steps if step.kind in _FILE_KINDS):
        output = None if step.kind in _GOES else _find_output(step.item)
        if output:
            made[output.name].add(_stem(step.item))
        rows = [*_find_rows(step.item), *triggers.find(step.item)]
        for name in (*rows, "postmap") if _is_of_map(step.item, here) else rows:
            found[name] += [step.item] if len(found[name]) < _MOST_INPUTS else []
    for row in (row for row in TABLE if row.name in made):
        found[row.name] = [p for p in found[row.name] if row.takes_inputs and _stem(p) not in made[row.name]]
    return {name: tuple(paths) for name, paths in found.items() if paths}


def _is_of_map(path: bytes, here: RemakeFacts) -> bool:
    """Whether a path is the source of a map of Postfix, or the map itself, which needs no making then."""
    return path in here.maps or (path.endswith(_MAP_ENDINGS) and _stem(path) in here.maps)


def _stem(path: bytes) -> bytes:
    return path.rpartition(b".")[0]


def _compile(patterns: Iterable[str]) -> bytes:
    """Give a regular expression for paths, each with all below it.

    `**` stands for anything, `*` for a part of a name, `+` for a name without a dot, `#` for digits and dots.
    """
    signs = {"**": ".*", "*": "[^/]*", "+": "[^/.]+", "#": "[0-9.]+"}
    parts = (re.split(r"(\*\*|[*+#])", pattern) for pattern in patterns)
    plain = "|".join("".join(signs.get(part) or re.escape(part) for part in pattern) for pattern in parts)
    return b"(?:%s)(?:/.*)?$" % plain.encode()


_TOPS = (b"/etc/", b"/usr/", b"/lib/")
_INPUTS = tuple((row.name, re.compile(_compile(row.inputs), re.DOTALL)) for row in TABLE)
_MADE = tuple((row, re.compile(_compile(row.outputs), re.DOTALL)) for row in TABLE if row.outputs)


def _find_rows(path: bytes) -> Iterator[str]:
    if path.startswith(_TOPS) or b".so" in path:
        yield from (name for name, pattern in _INPUTS if pattern.match(path))


def _find_output(path: bytes) -> Remake | None:
    return next((row for row, pattern in _MADE if pattern.match(path)), None) if path.startswith(_TOPS) else None


# ---------------------------------------------------------------- the triggers of dpkg


class _TriggerSearch:
    """Finds the packages that want to know of a change at a path. Those that make how a machine starts are left out."""

    def __init__(self, here: RemakeFacts) -> None:
        self._packages: defaultdict[bytes, list[str]] = defaultdict(list)
        for folder, package in here.triggers:
            if not is_bound_to_machine(package):
                self._packages[folder].append(package)
        self._tops = tuple(self._packages)

    def find(self, path: bytes) -> Iterator[str]:
        while path.startswith(self._tops):
            yield from map(_trigger_name, self._packages.get(path, ()))
            path = path.rpartition(b"/")[0]


def _plan_triggers(changed: dict[str, tuple[bytes, ...]], here: RemakeFacts) -> Iterator[Step]:
    """Give one step for each package whose folders change."""
    for package in sorted({package for _, package in here.triggers}):
        name = _trigger_name(package)
        if inputs := changed.get(name, ()):
            command = Command(name, ("dpkg-trigger", package), inputs)
            yield Step(StepKind.RUN, name.encode(), f"for {_name(inputs)}", command=command)


def _trigger_name(package: str) -> str:
    return f"dpkg-trigger {package}"

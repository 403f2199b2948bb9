"""Which services a restore restarts, starts or lists, where systemd or a runlevel is, and where no init system runs."""

from dataclasses import replace

import pytest

from tests.unit.model_machine import View
from tests.unit.test_plan_files import MACHINE, base_tree
from tklb.diff.rules import parse_override
from tklb.model.accounts import Accounts
from tklb.model.files import FileEntry
from tklb.model.plan import ServiceFacts, Step, StepKind
from tklb.model.snapshot_metadata import SnapshotMetadata
from tklb.restore.plan.filter import RestoreFilter
from tklb.restore.plan.inputs import CurrentMachine, PlanInputs, SnapshotContents
from tklb.restore.plan.services import find_replaced_links, plan_services

ENABLED = frozenset({"nginx", "app", "backup.timer", "smbd", "mariadb", "networking"})
HERE = ServiceFacts(
    can_start=True,
    enabled=ENABLED,
    scripts=frozenset({"nginx", "smbd"}),
    of_packages={"nginx-common": ("nginx",), "samba": ("nmbd", "smbd"), "ifupdown": ("networking",)},
    of_files={b"/etc/nginx": ("nginx",), b"/etc/samba": ("nmbd", "smbd"), b"/etc/nginx/none": ()},
)
NO_INIT = replace(HERE, can_start=False)


def plan(
    *steps: Step, here: ServiceFacts = HERE, listed: tuple[str, ...] = (), limit: str = ""
) -> tuple[list[str], tuple[str, ...]]:
    saved = SnapshotContents("x", SnapshotMetadata(replace(MACHINE, services=listed)), lambda: iter(()))
    machine = CurrentMachine(MACHINE, Accounts(), (), View(base_tree()), services=here)
    choice = RestoreFilter(limit=(parse_override(limit),) if limit else ())
    before, after = plan_services(PlanInputs(saved, machine, choice), steps)
    found = [step.item.decode() for step in (*before.steps, *after.steps)]
    return found, (*before.warnings, *after.warnings)


def write(path: str, link: str = "") -> Step:
    name = path.encode()
    return Step(StepKind.WRITE, name, entry=FileEntry(name, "link" if link else "file", link=link.encode() or None))


def delete(path: str) -> Step:
    return Step(StepKind.DELETE, path.encode())


WANTS = "/etc/systemd/system/multi-user.target.wants/"

# ---------------------------------------------------------------- what concerns a service


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/etc/systemd/system/app.service", "app"),
        ("/usr/local/lib/systemd/system/app.service", "app"),
        ("/etc/systemd/system/nginx.service.d/limits.conf", "nginx"),
        ("/etc/systemd/system/backup.timer", "backup.timer"),
        ("/lib/systemd/system/app.service", "app"),
        ("/etc/init.d/app", "app"),
        ("/etc/nginx/sites-enabled/shop", "nginx"),
        ("/etc/nginx", "nginx"),
        ("/etc/samba/smb.conf", "smbd"),
    ],
)
def test_unit_script_and_configuration_restart_their_enabled_service(path: str, service: str) -> None:
    assert plan(write(path))[0] == [service]
    assert plan(delete(path))[0] == [service]


@pytest.mark.parametrize("path", ["/etc/nginx/none/x", "/etc/motd", "/srv/systemd/system/app.service", "/etc/nginx-x"])
def test_other_files_restart_nothing(path: str) -> None:
    assert plan(write(path)) == ([], ())


@pytest.mark.parametrize(
    ("link", "service"),
    [
        (WANTS + "new.service", "new"),
        ("/etc/systemd/system/timers.target.wants/new.timer", "new.timer"),
        ("/etc/systemd/system/sockets.target.wants/new.socket", "new.socket"),
        ("/etc/systemd/system/app.service.requires/new@1.service", "new@1"),
        ("/etc/rc3.d/S01new", "new"),
    ],
)
def test_service_that_the_restore_enables_starts(link: str, service: str) -> None:
    assert plan(write(link, link="/x"))[0] == [service]


def test_service_that_the_restore_disables_or_masks_is_left_alone() -> None:
    assert plan(delete(WANTS + "nginx.service"), write("/etc/nginx/a")) == ([], ())
    assert plan(write("/etc/systemd/system/app.service", link="/dev/null")) == ([], ())
    assert plan(delete("/etc/rc2.d/S01app"), write("/etc/init.d/app")) == ([], ())


def test_services_of_new_packages_start_if_they_are_enabled() -> None:
    assert plan(here=replace(HERE, new_packages=("samba", "nginx-common")))[0] == ["nginx", "smbd"]


def test_services_of_the_profile_come_first_and_database_servers_before_all() -> None:
    assert plan(write("/etc/nginx/a"), listed=("cron", "mariadb"))[0] == ["mariadb", "cron", "nginx"]


def test_interrupted_restore_is_made_up_for() -> None:
    assert plan(here=replace(HERE, unfinished=("cron",)))[0] == ["cron"]
    assert plan() == ([], ())


def test_link_of_the_snapshot_replaces_the_one_of_the_same_service_and_runlevel() -> None:
    names = {b"/etc/rc2.d": (b"README", b"S01nginx", b"S01cron", b"S02app"), b"/etc/rc3.d": (b"S01nginx",)}
    brought = [b"/etc/rc2.d/K01nginx", b"/etc/rc2.d/S02app", b"/etc/rc4.d/K01nginx"]
    assert list(find_replaced_links(brought, lambda folder: names.get(folder, ()))) == [b"/etc/rc2.d/S01nginx"]


# ---------------------------------------------------------------- what is listed


def test_without_init_system_running_services_restart_and_those_that_came_are_listed() -> None:
    here = replace(NO_INIT, new_packages=("nginx-common",), is_running=lambda name: name == "smbd")
    steps, warnings = plan(
        write("/etc/samba/smb.conf"), write("/etc/systemd/system/app.service"), here=here, listed=("cron",)
    )
    assert steps == ["cron", "smbd"]
    assert warnings == (
        "not started: app.service, nginx: start them, or restart this machine (no init system runs here)",
    )


def test_configuration_of_a_stopped_service_is_no_reason_to_list_it() -> None:
    assert plan(write("/etc/nginx/a"), here=NO_INIT) == ([], ())


def test_services_of_packages_that_will_come_are_announced() -> None:
    _, warnings = plan(Step(StepKind.INSTALL, b"nginx"), here=NO_INIT)
    assert warnings == ("no init system runs here: the restore lists the services of new packages at its end",)


def test_what_only_a_start_of_the_machine_runs_is_named() -> None:
    wants = "/home/anna/.config/systemd/user/timers.target.wants/"
    links = [write(f"{wants}{name}", f"../{name}") for name in ("backup.timer", "app.service")]
    _, warnings = plan(*links, write("/etc/systemd/user/default.target.wants/all.service", "/usr/lib/all.service"))
    own, all_users = (line.partition(", or with this machine if lingering: ") for line in warnings)
    assert own == ("starts at the next login of the user of /home/anna", own[1], "app.service, backup.timer")
    assert all_users == ("starts at the next login of any user", own[1], "all.service")
    _, warnings = plan(write("/etc/rc.local"), write("/var/lib/systemd/linger/anna"))
    assert warnings == ("runs at the next start of this machine: /etc/rc.local, services of anna",)


def test_network_under_the_session_is_never_cut() -> None:
    steps, warnings = plan(write("/etc/init.d/networking"))
    assert steps == []
    assert "not restarted, because that may end your session: networking" in warnings[0]


def test_limited_restore_restarts_nothing_and_says_so() -> None:
    steps, warnings = plan(write("/etc/nginx/a"), limit="/etc/nginx", listed=("cron",))
    assert steps == []
    assert warnings == ("not restarted, because the restore is limited: cron, nginx",)

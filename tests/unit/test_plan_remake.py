"""What a restore makes anew: which changed file leads to which command, and what is reported instead."""

from dataclasses import replace

import pytest

from tklb.model.plan import Command, RemakeFacts, Step, StepKind
from tklb.restore.plan.files.boot_settings import find_portable, is_boot_setting
from tklb.restore.plan.part import PlanPart
from tklb.restore.plan.remake import GRUB, INITRAMFS, PROGRAMS, TABLE, plan_remakes

FULL = RemakeFacts(PROGRAMS, has_systemd=True, has_udev=True, rules_kernel=True)
BARE = RemakeFacts(frozenset({"ldconfig"}))


def plan(*paths: str, here: RemakeFacts = FULL, kind: StepKind = StepKind.WRITE, installs: bool = False) -> PlanPart:
    return plan_remakes([Step(kind, path.encode()) for path in paths], here, installs=installs)


def commands(part: PlanPart) -> list[str]:
    return [step.item.decode() for step in part.steps]


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("/etc/ld.so.conf.d/own.conf", "ldconfig"),
        ("/usr/local/lib/libown.so.1", "ldconfig"),
        ("/opt/app/lib/libapp.so", "ldconfig"),
        ("/etc/locale.gen", "locale-gen"),
        ("/usr/local/share/i18n/locales/xx_XX", "locale-gen of all"),
        ("/usr/local/share/ca-certificates/firm/root.crt", "update-ca-certificates"),
        ("/etc/ca-certificates.conf", "update-ca-certificates"),
        ("/etc/sysctl.d/50-own.conf", "sysctl"),
        ("/etc/sysctl.conf", "sysctl"),
        ("/etc/sysusers.d/app.conf", "systemd-sysusers"),
        ("/etc/tmpfiles.d/app.conf", "systemd-tmpfiles"),
        ("/etc/systemd/system/app.service", "systemctl daemon-reload"),
        ("/etc/init.d/app", "systemctl daemon-reload"),
        ("/etc/udev/rules.d/70-own.rules", "udevadm control"),
        ("/etc/aliases", "newaliases"),
        ("/etc/postfix/virtual", "postmap"),
        ("/etc/exim4/conf.d/router/150_own", "update-exim4.conf"),
        ("/etc/mail/access", "sendmail maps"),
        ("/etc/dovecot/sieve/before.sieve", "sievec"),
        ("/etc/dconf/db/local.d/00-own", "dconf"),
        ("/usr/local/share/glib-2.0/schemas/own.xml", "glib-compile-schemas"),
        ("/usr/local/share/fonts/own.ttf", "fc-cache"),
        ("/usr/local/share/texmf/tex/own.sty", "mktexlsr"),
    ],
)
@pytest.mark.parametrize("kind", [StepKind.WRITE, StepKind.LINK, StepKind.METADATA, StepKind.DELETE, StepKind.MOVE])
def test_changed_input_leads_to_its_command(path: str, command: str, kind: StepKind) -> None:
    assert commands(plan(path, kind=kind)) == [command]


@pytest.mark.parametrize(
    "path", ["/etc/locale.gen.bak", "/srv/etc/aliases", "/etc/ld.so.conf.dpkg-old", "/home/o/x.sock", "/etc/aliasesx"]
)
def test_neighbour_of_an_input_leads_to_none(path: str) -> None:
    assert plan(path) == PlanPart()


def test_nothing_runs_where_nothing_changes() -> None:
    assert plan() == PlanPart()
    assert plan("/etc/locale.gen", kind=StepKind.INSTALL) == PlanPart()


def test_commands_come_in_the_order_of_the_table_and_once() -> None:
    found = commands(plan("/etc/aliases", "/etc/sysctl.conf", "/etc/ld.so.conf", "/etc/sysctl.d/a", "/usr/lib/a.so"))
    assert found == ["ldconfig", "sysctl", "newaliases"]


def test_step_says_which_files_it_is_for() -> None:
    (step,) = plan("/etc/sysctl.d/a", "/etc/sysctl.d/b", "/etc/sysctl.d/c").steps
    assert step.detail == "for /etc/sysctl.d/a and 2 more"
    assert step.command.inputs == (b"/etc/sysctl.d/a", b"/etc/sysctl.d/b", b"/etc/sysctl.d/c")


# ---------------------------------------------------------------- what came itself


@pytest.mark.parametrize(
    ("source", "made"),
    [
        ("/etc/aliases", "/etc/aliases.db"),
        ("/usr/local/share/ca-certificates/own.crt", "/etc/ssl/certs/ca-certificates.crt"),
        ("/etc/dovecot/a.sieve", "/etc/dovecot/a.svbin"),
        ("/etc/dconf/db/local.d/00", "/etc/dconf/db/local"),
        ("/etc/mail/access", "/etc/mail/access.db"),
        ("/usr/local/share/mime/packages/own.xml", "/usr/local/share/mime/mime.cache"),
    ],
)
def test_output_that_comes_back_itself_is_not_made_again(source: str, made: str) -> None:
    assert commands(plan(source, made)) == []
    assert commands(plan(made, source)) == []


@pytest.mark.parametrize("kind", [StepKind.DELETE, StepKind.MOVE])
def test_output_that_goes_is_made_again(kind: StepKind) -> None:
    steps = [Step(StepKind.WRITE, b"/etc/aliases"), Step(kind, b"/etc/aliases.db")]
    assert commands(plan_remakes(steps, FULL, installs=False)) == ["newaliases"]


def test_only_the_scripts_without_their_output_are_compiled() -> None:
    (step,) = plan("/etc/dovecot/a.sieve", "/etc/dovecot/a.svbin", "/etc/dovecot/b.sieve").steps
    assert step.command.inputs == (b"/etc/dovecot/b.sieve",)


# ---------------------------------------------------------------- what this machine lacks


def test_missing_program_is_reported_where_its_input_came() -> None:
    part = plan("/etc/locale.gen", "/etc/postfix/main.cf", here=BARE)
    assert part.steps == ()
    assert {item.item for item in part.skipped} == {b"command:locale-gen", b"command:postmap"}
    assert "locale-gen is not installed here" in part.skipped[0].reason


def test_program_may_come_with_the_packages_of_the_restore() -> None:
    part = plan("/etc/locale.gen", here=BARE, installs=True)
    assert (commands(part), part.skipped) == (["locale-gen"], ())


@pytest.mark.parametrize(
    "path", ["/etc/aliases", "/etc/systemd/system/a.service", "/etc/udev/rules.d/a.rules", "/etc/dconf/db/local.d/a"]
)
def test_nothing_is_reported_where_nobody_would_read_the_result(path: str) -> None:
    assert plan(path, here=BARE) == PlanPart()


def test_without_systemd_as_process_1_units_are_not_reloaded() -> None:
    assert plan("/etc/systemd/system/app.service", here=replace(FULL, has_systemd=False)) == PlanPart()


def test_kernel_of_another_stays_and_that_is_said() -> None:
    part = plan("/etc/sysctl.d/own.conf", here=replace(FULL, rules_kernel=False))
    assert part.steps == ()
    assert "/etc/sysctl.d/own.conf takes effect at the next start" in part.warnings[0]


def test_second_program_runs_where_the_first_is_missing() -> None:
    (step,) = plan("/etc/sysctl.d/own.conf", here=replace(FULL, programs=PROGRAMS - {"sysctl"})).steps
    assert step.command.argv == ("/usr/lib/systemd/systemd-sysctl",)


def test_sendmail_maps_need_sendmail_not_only_make() -> None:
    assert plan("/etc/mail/access", here=replace(FULL, programs=PROGRAMS - {"sendmailconfig"})) == PlanPart()


@pytest.mark.parametrize(
    ("path", "program"),
    [
        ("/etc/modprobe.d/own.conf", "update-initramfs"),
        ("/etc/modules", "update-initramfs"),
        ("/etc/initramfs-tools/modules", "update-initramfs"),
        ("/etc/default/grub.d/own.cfg", "update-grub"),
    ],
)
def test_how_the_machine_starts_is_made_anew_only_where_it_starts_that_way(path: str, program: str) -> None:
    (step,) = plan(path).steps
    assert step.command.argv[0] == program
    assert plan(path, here=replace(FULL, programs=PROGRAMS - {GRUB, INITRAMFS})) == PlanPart()


SETTINGS = {
    b"/etc/default/grub": b'GRUB_TIMEOUT=3\nGRUB_CMDLINE_LINUX="mitigations=off"\n# GRUB_DISABLE_LINUX_UUID=true\n',
    b"/etc/default/grub.d/a.cfg": b'GRUB_CMDLINE_LINUX="resume=UUID=0a1b2c3d-0000-4000-8000-000000000000"\n',
    b"/etc/default/grub.d/b.cfg": b'GRUB_CMDLINE_LINUX="root=/dev/mapper/vg-root"\n',
    b"/etc/grub.d/40_custom": b"search --no-floppy --fs-uuid --set=root 1234-ABCD\n",
    b"/etc/grub.d/09_menu": b"echo menuentry\n",
    b"/etc/initramfs-tools/conf.d/resume": b"RESUME=/dev/sda5\n",
    b"/etc/initramfs-tools/conf.d/driver-policy": b"MODULES=dep\n",
    b"/etc/initramfs-tools/conf.d/label": b"RESUME=LABEL=swap\n",
}
OF_GRUB = {b"/etc/default/grub", b"/etc/grub.d/09_menu"}
OF_INITRAMFS = {b"/etc/initramfs-tools/conf.d/driver-policy"}


def test_settings_of_the_start_come_back_if_they_name_no_disk_and_have_a_reader_here() -> None:
    assert {*find_portable(SETTINGS, SETTINGS, PROGRAMS)} == OF_GRUB | OF_INITRAMFS
    assert {*find_portable(SETTINGS, SETTINGS, PROGRAMS - {GRUB})} == OF_INITRAMFS
    assert {*find_portable(SETTINGS, SETTINGS, PROGRAMS - {INITRAMFS})} == OF_GRUB
    assert list(find_portable([b"/etc/grub.d/09_menu"], {}, PROGRAMS)) == []  # too large to be read
    assert list(find_portable([b"/etc/initramfs-tools/hooks/own"], {}, PROGRAMS)) == [b"/etc/initramfs-tools/hooks/own"]
    assert all(map(is_boot_setting, SETTINGS))
    assert not any(
        map(is_boot_setting, (b"/etc/default/cron", b"/etc/default/grub.ucf-dist", b"/etc/initramfs-tools2"))
    )


# ---------------------------------------------------------------- dpkg's triggers, Postfix's maps, unfinished ones

TRIGGERS = ((b"/usr/local/share/man", "man-db"), (b"/usr/share/man", "man-db"), (b"/usr/lib/grub", "grub-pc"))


@pytest.mark.parametrize("path", ["/usr/local/share/man/man1/own.1", "/usr/share/man", "/usr/share/man/man8/x.8"])
def test_change_below_a_folder_of_a_trigger_wakes_its_package(path: str) -> None:
    (step,) = plan(path, here=replace(BARE, triggers=TRIGGERS)).steps
    assert step.item == b"dpkg-trigger man-db"
    assert step.command.argv == ("dpkg-trigger", "man-db")


@pytest.mark.parametrize("path", ["/usr/share/manual", "/usr/local/share", "/usr/lib/grub/x86/own.mod"])
def test_other_paths_and_packages_of_the_boot_loader_are_left_alone(path: str) -> None:
    assert plan(path, here=replace(BARE, triggers=TRIGGERS)) == PlanPart()


def test_source_of_a_map_outside_postfix_folder_counts() -> None:
    here = replace(FULL, maps=frozenset({b"/srv/mail/virtual"}))
    assert commands(plan("/srv/mail/virtual", here=here)) == ["postmap"]
    assert commands(plan("/srv/mail/other", here=here)) == []


def test_a_map_that_comes_with_its_source_is_not_due() -> None:
    here = replace(FULL, maps=frozenset({b"/etc/aliases"}))
    step = next(step for step in plan("/etc/aliases", "/etc/aliases.db", here=here).steps if step.item == b"postmap")
    assert step.command.inputs == (b"/etc/aliases", b"/etc/aliases.db")
    assert "newaliases" in commands(plan("/etc/aliases", here=here))


def test_command_of_an_earlier_restore_runs_until_it_succeeds() -> None:
    late = Command("locale-gen", ("locale-gen",))
    here = replace(FULL, unfinished=(late,))
    (step,) = plan(here=here).steps
    assert (step.command, step.detail) == (late, "an earlier restore did not finish it")
    assert commands(plan("/etc/locale.gen", here=here)) == ["locale-gen"]


def test_names_of_rows_are_unique() -> None:
    assert len({row.name for row in TABLE}) == len(TABLE)

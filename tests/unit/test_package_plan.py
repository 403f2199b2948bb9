"""What a restore does to the packages of a machine: what comes, replaces, goes, is marked or named. Pure."""

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_packages import SETS, package
from tklb.diff.packages import label
from tklb.model.packages import LocalPackage, Package, PackageHistory, PackageOffer, PackageRelations
from tklb.restore.plan.inputs import PackageState
from tklb.restore.plan.packages.package_plan import (
    PackagePlan,
    SavedPackages,
    excludes,
    find_replacement,
    plan_packages,
)

DPKG = package("dpkg")


def plan(
    there: Iterable[Package],
    here: Iterable[Package] = (),
    *,
    base: Iterable[Package] = (),
    local: Iterable[str] = (),
    records: Iterable[LocalPackage] = (),
    history: PackageHistory | None = None,
    state: PackageState | None = None,
    **more: bool,
) -> PackagePlan:
    known = history or PackageHistory(relations={})
    saved = SavedPackages((DPKG, *there), (DPKG, *base), frozenset(local), tuple(records), known)
    return plan_packages(saved, (DPKG, *here), state or PackageState(), **more)


def names(made: PackagePlan) -> list[str]:
    return [order.label for order in made.install]


def offering(**versions: str) -> PackageState:
    """A machine whose sources offer some packages, each in some versions; the last one is the candidate."""
    known = {name.replace("_", "-"): text.split() for name, text in versions.items()}
    offers = {name: PackageOffer(tuple(found), found[-1]) for name, found in known.items()}
    return PackageState(find_offers=lambda labels: {name: offers[name] for name in labels if name in offers} or offers)


# ---------------------------------------------------------------- whole sets


def test_a_package_that_the_install_state_has_and_this_machine_lacks_comes() -> None:
    base = (package("cron"), package("nftables"), package("locales"), package("libnftables1", auto=True))
    made = plan(base, base=base)
    assert names(made) == ["cron", "libnftables1", "locales", "nftables"]
    assert not made.warnings
    assert not made.skipped


def test_only_what_is_missing_comes_with_the_marks_it_had() -> None:
    made = plan(
        (package("acl", held=True), package("libz", auto=True), package("zsh", auto=True)), (package("zsh", "9"),)
    )
    assert names(made) == ["acl", "libz"]
    assert made.marks == (("acl", False, True), ("libz", True, False), ("zsh", True, False))


def test_marks_of_packages_of_the_install_state_follow_too() -> None:
    base = (package("cron"), package("nano"))
    made = plan(base, (package("cron", auto=True), package("nano", held=True)), base=base)
    assert made.marks == (("cron", False, False), ("nano", False, False))
    assert names(made) == []


def test_packages_bound_to_that_machine_are_named_by_reason() -> None:
    made = plan((package("linux-image-amd64"), package("initramfs-tools"), package("grub-pc"), package("zsh")))
    assert names(made) == ["zsh"]
    assert [line.partition(":")[2] for line in made.warnings] == [" grub-pc", " initramfs-tools linux-image-amd64"]


def test_what_no_source_offered_there_is_skipped_and_named() -> None:
    made = plan((package("ourtool"), package("zsh")), local=["ourtool"])
    assert names(made) == ["zsh"]
    assert [item.item for item in made.skipped] == [b"package:ourtool"]


def record(label: str, architecture: str = "all") -> LocalPackage:
    return LocalPackage(label, architecture, b"")


def test_local_package_with_a_record_is_built_again_and_its_needs_stay_automatic() -> None:
    history = PackageHistory(relations={}, needed_by_local=("libz",))
    there = (package("ourtool", "2", held=True), package("libz", auto=True), package("other"))
    made = plan(there, local=["ourtool"], records=[record("ourtool")], history=history)
    assert [order.label for order in made.install if order.local] == ["ourtool"]
    assert ("libz", True, False) in made.marks
    assert not made.skipped


def test_local_package_here_gets_the_version_of_its_files() -> None:
    for version in ("1", "3"):
        made = plan(
            (package("ourtool", "2"),), (package("ourtool", version),), local=["ourtool"], records=[record("ourtool")]
        )
        assert names(made) == ["ourtool"]
    assert names(plan((package("ourtool", "2"),), (package("ourtool", "2"),), records=[record("ourtool")])) == []


def test_local_package_for_another_architecture_is_named() -> None:
    there = (package("ours", architecture="amd64"), package("foreign", architecture="i386"))
    saved = SavedPackages(
        (package("dpkg", architecture="amd64"), *there),
        local=frozenset(["ours", "foreign:i386"]),
        records=(record("ours", "amd64"), record("foreign:i386", "i386")),
    )
    made = plan_packages(saved, (package("dpkg", architecture="arm64"),), PackageState())
    assert names(made) == ["foreign:i386"]
    assert made.architectures == ("i386",)
    assert [item.reason for item in made.skipped] == ["it is for amd64 only; its files are restored as files"]


def test_what_a_local_package_needs_is_manual_here() -> None:
    history = PackageHistory(relations={}, needed_by_local=("libz", "libold"))
    there = (package("ourtool"), package("libz", auto=True), package("libold", auto=True))
    made = plan(there, (package("libold", auto=True),), local=["ourtool"], history=history)
    assert made.marks == (("libold", False, False), ("libz", False, False))


def test_packages_that_are_held_and_not_there_are_held_here_too() -> None:
    history = PackageHistory(relations={}, absent_holds=("unwanted", "held-already", "here"))
    made = plan((), (package("here"),), history=history, state=PackageState(absent_holds=("held-already",)))
    assert made.marks == (("unwanted", False, True),)


def test_removals_are_those_of_the_install_state_and_never_essential_or_the_kernels() -> None:
    here = (package("nano"), package("tar"), package("linux-image-amd64"))
    state = PackageState(relations={"tar": PackageRelations(is_essential=True)})
    assert plan((), here, base=(*here, package("gone")), state=state).removals == ("nano",)
    assert plan((), here, state=state).removals == ()  # packages of this machine only


def test_package_that_is_not_configured_here_is_missing_and_no_other_is() -> None:
    here = (package("begun"), package("own"), package("whole"))
    made = plan((package("begun"), package("whole")), here, state=PackageState(unfinished=("begun", "own")))
    assert names(made) == ["begun"]


def test_foreign_packages_bring_their_architecture() -> None:
    foreign = (package("libc6", architecture="i386"), package("wine32", architecture="i386"))
    made = plan(foreign)
    assert made.architectures == ("i386",)
    assert names(made) == ["libc6:i386", "wine32:i386"]


def test_native_packages_of_another_architecture_come_as_native_ones() -> None:
    there = (package("acl", architecture="arm64"), package("libc6", architecture="armhf"), package("qemu"))
    saved = SavedPackages((package("dpkg", architecture="arm64"), *there))
    made = plan_packages(saved, (DPKG,), PackageState())
    assert names(made) == ["acl", "libc6:armhf", "qemu"]  # qemu was a foreign one there, and is a native one here
    assert made.architectures == ("armhf",)


# ---------------------------------------------------------------- another release


def test_on_another_release_only_what_is_wanted_and_to_be_had_comes() -> None:
    base = (
        package("cron"), package("libssl3"), package("perl-modules-5.36", auto=True), package("logrotate", auto=True),
        package("gcc-12-base"), package("telnet", auto=True),
    )  # fmt: skip
    added = (package("nginx"), package("libold5", auto=True), package("nginx-common", auto=True))
    state = offering(cron="1", logrotate="1", nginx_common="2", libfoo="1")
    state = PackageState({"libssl3t64": PackageRelations(provides=("libssl3",))}, find_offers=state.find_offers)
    made = plan((*base, *added), (package("libssl3t64"),), base=base, state=state, is_other_release=True)
    assert names(made) == ["cron", "logrotate", "nginx", "nginx-common"]
    (warning,) = made.warnings
    assert warning.partition(": ")[2] == "gcc-12-base libold5 perl-modules-5.36 telnet"


def test_on_another_release_apt_decides_where_it_has_no_lists_yet() -> None:
    made = plan((package("libold5", auto=True), package("nginx")), is_other_release=True)
    assert [(order.label, order.is_optional) for order in made.install] == [("libold5", True), ("nginx", False)]


def test_on_another_release_marks_are_the_owners_choices() -> None:
    base = (package("cron"), package("nano"), package("vim"))
    there = (package("cron"), package("nano", held=True), package("vim", auto=True))
    here = (package("cron", auto=True), package("nano"), package("vim"))
    made = plan(there, here, base=base, is_other_release=True)
    assert made.marks == (("nano", False, True), ("vim", True, False))


# ---------------------------------------------------------------- replacements

MAIL = ("mail-transport-agent",)
POSTFIX = PackageRelations(provides=MAIL, conflicts=MAIL)
EXIM = {
    "exim4": PackageRelations(needs=("exim4-base", "exim4-daemon-light"), source="exim4"),
    "exim4-base": PackageRelations(needs=("exim4-config",), source="exim4"),
    "exim4-daemon-light": PackageRelations(provides=MAIL, conflicts=MAIL, needs=("exim4-base",), source="exim4"),
    "mutt": PackageRelations(needs=("exim4-daemon-light",), source="mutt"),
}


@pytest.mark.parametrize(
    ("coming", "its", "going", "other"),
    [
        ("chrony", PackageRelations(("time-daemon",), ("time-daemon",)), "systemd-timesyncd",
         PackageRelations(("time-daemon",), ("time-daemon",))),
        ("postfix", POSTFIX, "exim4-daemon-light", EXIM["exim4-daemon-light"]),
        ("docker-ce", PackageRelations((), ("docker.io",)), "docker.io", PackageRelations()),
        ("docker.io", PackageRelations(), "docker-ce", PackageRelations((), ("docker.io",))),
        ("syslog-ng-core", PackageRelations(("system-log-daemon",), ()), "rsyslog",
         PackageRelations(("system-log-daemon",), ("system-log-daemon",))),
        ("mariadb-server", PackageRelations(("virtual-mysql-server",), ("mysql-server",)), "mysql-server",
         PackageRelations(("virtual-mysql-server",), ())),
    ],
)  # fmt: skip
def test_packages_that_exclude_each_other_are_one_replacement(
    coming: str, its: PackageRelations, going: str, other: PackageRelations
) -> None:
    made = plan(
        (package(coming),), (package(going),), base=(package(going),), history=PackageHistory({coming: its}),
        state=PackageState({going: other}),
    )  # fmt: skip
    (order,) = made.install
    assert (order.label, order.replaces) == (coming, (going,))
    assert made.removals == ()  # it is no removal of its own


def test_what_only_serves_the_same_replaces_nothing() -> None:
    awk = PackageRelations(provides=("awk",))
    made = plan(
        (package("gawk"),), (package("mawk"),), history=PackageHistory({"gawk": awk}), state=PackageState({"mawk": awk})
    )
    assert made.install[0].replaces == ()


def test_the_family_of_a_replaced_package_goes_and_no_other() -> None:
    here = tuple(map(package, EXIM))
    made = plan((package("postfix"),), here, history=PackageHistory({"postfix": POSTFIX}), state=PackageState(EXIM))
    assert made.install[0].replaces == ("exim4", "exim4-daemon-light")


def test_a_replacement_never_takes_what_that_machine_has_or_what_is_essential() -> None:
    rival = PackageRelations(conflicts=("x-new",), is_essential=True)
    made = plan(
        (package("x-new"),), (package("x-old"),), history=PackageHistory({}), state=PackageState({"x-old": rival})
    )
    assert made.install[0].replaces == ()
    both = plan(
        (package("x-new"), package("x-old")), (package("x-old"),), history=PackageHistory({}),
        state=PackageState({"x-old": PackageRelations(conflicts=("x-new",))}),
    )  # fmt: skip
    assert both.install[0].replaces == ()


def test_an_old_snapshot_that_knows_no_relations_replaces_nothing() -> None:
    state = PackageState({"exim4-daemon-light": EXIM["exim4-daemon-light"]})
    made = plan((package("postfix"),), (package("exim4-daemon-light"),), history=PackageHistory(), state=state)
    assert made.install[0].replaces == ()


def test_a_removal_waits_for_the_package_that_it_makes_room_for() -> None:
    httpd = PackageRelations(provides=("httpd",))
    here: Mapping[str, PackageRelations] = {"apache2": httpd, "nano": PackageRelations(provides=("editor",))}
    assert find_replacement("apache2", ["nginx"], here, {"nginx": httpd}) == "nginx"
    assert find_replacement("nano", ["nginx"], here, {"nginx": httpd}) is None
    assert find_replacement("apache2", [], here, {"nginx": httpd}) is None
    assert find_replacement("nano", ["nginx"], here, None) == "nginx"  # nothing is known, so nothing goes


def test_a_package_never_excludes_itself_or_its_foreign_twin() -> None:
    assert not excludes("postfix", POSTFIX, "postfix", POSTFIX)
    assert not excludes("postfix", POSTFIX, "postfix:i386", POSTFIX)


# ---------------------------------------------------------------- versions


def test_a_held_package_gets_its_version_where_it_is_offered_and_is_named_elsewhere() -> None:
    there, here = (package("nginx", "1.2", held=True),), (package("nginx", "1.4"),)
    made = plan(there, here, state=offering(nginx="1.2 1.4"))
    assert [(order.label, order.version, order.held) for order in made.install] == [("nginx", "1.2", True)]
    named = plan(there, here, state=offering(nginx="1.4"))
    assert names(named) == []
    (warning,) = named.warnings
    assert "1.2" in warning
    assert "1.4" in warning
    assert plan(there, there).install == ()


def test_a_version_of_backports_comes_for_a_package_that_both_machines_have() -> None:
    there, here = (package("systemd", "254~bpo12+1"),), (package("systemd", "252"),)
    history = PackageHistory({}, newer=("systemd",))
    assert names(plan(there, here, history=history, state=offering(systemd="254~bpo12+1 252"))) == ["systemd"]
    assert names(plan(there, here, history=history, state=offering(systemd="252"))) == []
    assert names(plan(there, here, history=history, state=offering(systemd="252"), sources_come=True)) == ["systemd"]
    assert names(plan(there, here, state=offering(systemd="254~bpo12+1 252"))) == []  # upgrades are the machine's own
    assert names(plan(here, there, history=history)) == []


# ---------------------------------------------------------------- properties


@given(SETS, SETS, SETS, st.booleans())
def test_a_second_restore_has_nothing_to_do(
    base: tuple[Package, ...], there: tuple[Package, ...], here: tuple[Package, ...], is_other: bool
) -> None:
    saved = SavedPackages(there, base, history=PackageHistory({}))
    first = plan_packages(saved, here, PackageState(), is_other_release=is_other)
    marks = {name: (auto, held) for name, auto, held in first.marks}
    brought = {order.label: order for order in first.install}
    after = {label(p, "amd64"): p for p in here} | {label(p, "amd64"): p for p in there if label(p, "amd64") in brought}
    left = tuple(
        Package(p.name, p.version, p.architecture, *marks.get(name, (p.auto, p.held))) for name, p in after.items()
    )
    again = plan_packages(saved, left, PackageState(), is_other_release=is_other)
    assert (again.install, again.marks, again.architectures) == ((), (), ())


@given(SETS, SETS, SETS)
def test_on_the_same_release_every_package_is_here_comes_or_is_named(
    base: tuple[Package, ...], there: tuple[Package, ...], here: tuple[Package, ...]
) -> None:
    made = plan_packages(SavedPackages(there, base), here, PackageState())
    present = {label(p, "amd64") for p in here}
    said = " ".join((*made.warnings, *(item.item.decode() for item in made.skipped))).split()
    for p in there:
        name = label(p, "amd64")
        assert name in present or name in names(made) or name in said
    assert not set(made.removals) & {label(p, "amd64") for p in there}
    assert not {name for order in made.install for name in order.replaces} & {label(p, "amd64") for p in there}

"""The packages form, and the difference of two package sets."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tklb.diff.packages import (
    delta_names,
    diff_packages,
    format_packages,
    is_bound_to_machine,
    label,
    native_architecture,
    parse_packages,
)
from tklb.model.packages import Package, PackageDelta

CASES = Path(__file__).parent.parent / "cases" / "packages"

NAMES = st.tuples(st.sampled_from("abc1"), st.text("ab1+.-", min_size=1, max_size=3)).map("".join)
PACKAGES = st.builds(
    Package,
    NAMES,
    st.tuples(st.sampled_from(["1", "2", "1:3", "0a"]), st.text("1A.+~-:", max_size=2)).map("".join),
    st.sampled_from(["amd64", "all", "i386"]),
    st.booleans(),
    st.booleans(),
)
SETS = (
    st.lists(PACKAGES, max_size=12, unique_by=lambda p: (p.name, "" if p.architecture == "all" else p.architecture))
    .map(lambda found: tuple(sorted([*found, Package("dpkg", "1", "amd64")])))
    .filter(lambda found: len({label(p, "amd64") for p in found}) == len(found))
)


def package(name: str, version: str = "1", architecture: str = "amd64", **marks: bool) -> Package:
    return Package(name, version, architecture, **marks)


@given(SETS)
def test_a_set_survives_being_written_and_read(packages: tuple[Package, ...]) -> None:
    assert parse_packages(format_packages(packages)) == packages


def test_order_and_width_of_white_space_do_not_matter() -> None:
    text = b"zsh   5.9-4  amd64 manual hold\n\nacl\t2.3.1-3\tamd64\tauto\n"
    assert parse_packages(text) == (package("acl", "2.3.1-3", auto=True), package("zsh", "5.9-4", held=True))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"acl 1 amd64 auto\nzsh\n", "line 2: it is not `name"),
        (b"acl 1 amd64 auto hold x\n", "line 1: it is not `name"),
        (b"-acl 1 amd64 auto\n", "line 1: '-acl' is not a valid package name"),
        (b"acl;reboot 1 amd64 auto\n", "line 1: 'acl;reboot' is not a valid package name"),
        (b"acl $(id) amd64 auto\n", "line 1: '$(id)' is not a valid version"),
        (b"acl 1 ../64 auto\n", "line 1: '../64' is not a valid architecture"),
        (b"acl 1 amd64 perhaps\n", "line 1: 'perhaps' is neither"),
        (b"acl 1 amd64 auto held\n", "line 1: 'held' is not hold"),
        (b"\n\nacl 1 amd64 auto\nacl 2 amd64 auto\n", "line 4: acl amd64 appears twice"),
        (b"\xff 1 amd64 auto\n", "line 1: not ASCII"),
    ],
)
def test_a_malformed_line_is_named(text: bytes, complaint: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_packages(text)
    assert str(caught.value).startswith(complaint)


@given(SETS)
def test_nothing_differs_from_itself(packages: tuple[Package, ...]) -> None:
    assert diff_packages(packages, packages).is_empty


@given(SETS, SETS)
def test_the_delta_turns_the_base_into_what_is_there(base: tuple[Package, ...], now: tuple[Package, ...]) -> None:
    delta = diff_packages(base, now)
    changed = dict((*delta.upgraded, *delta.marked))
    rebuilt = {changed.get(p, p) for p in base if p not in delta.removed} | set(delta.added)
    seen = {(label(p, "amd64"), p.version, p.auto, p.held) for p in rebuilt}
    assert seen == {(label(p, "amd64"), p.version, p.auto, p.held) for p in now}


@given(SETS, SETS)
def test_swapping_the_sets_swaps_added_and_removed(base: tuple[Package, ...], now: tuple[Package, ...]) -> None:
    there, back = diff_packages(base, now), diff_packages(now, base)
    assert (there.added, there.removed) == (back.removed, back.added)
    assert there.upgraded == tuple((old, new) for new, old in back.upgraded)


def test_a_downgrade_is_a_change_of_version_too() -> None:
    delta = diff_packages((package("php", "2"),), (package("php", "1"),))
    assert delta == PackageDelta(upgraded=((package("php", "2"), package("php", "1")),))


def test_a_package_that_became_architecture_independent_is_upgraded() -> None:
    base = (package("dpkg"), package("perl-doc", "1", "amd64"))
    delta = diff_packages(base, (package("dpkg"), package("perl-doc", "2", "all")))
    assert not delta.added
    assert [now.name for _, now in delta.upgraded] == ["perl-doc"]


def test_the_foreign_twin_of_a_library_is_added_beside_the_native_one() -> None:
    base = (package("dpkg"), package("libc6"))
    delta = diff_packages(base, (*base, package("libc6", architecture="i386")))
    assert delta_names(delta, "amd64")["added"] == ["libc6:i386"]


def test_a_held_package_counts_as_installed() -> None:
    delta = diff_packages((package("nginx"),), (package("nginx", held=True),))
    assert not delta.added
    assert not delta.removed
    assert delta_names(delta, "amd64")["held"] == ["nginx"]


def test_the_profile_of_another_architecture_names_the_same_packages() -> None:
    base = (package("dpkg", architecture="arm64"), package("acl", architecture="arm64"))
    assert diff_packages(base, (package("dpkg"), package("acl"))).is_empty


def test_the_native_architecture_is_that_of_dpkg() -> None:
    assert native_architecture([package("a-a", architecture="i386"), package("dpkg")]) == "amd64"
    assert native_architecture([package("a-a", architecture="all")]) == ""


@pytest.mark.parametrize("name", (CASES / "bound.txt").read_text().split())
def test_kernels_boot_loaders_and_hardware_packages_stay_with_their_machine(name: str) -> None:
    assert is_bound_to_machine(name)


@pytest.mark.parametrize("name", (CASES / "carried.txt").read_text().split())
def test_other_packages_are_carried_over(name: str) -> None:
    assert is_bound_to_machine(name) is None

"""The order of versions, compared with that of dpkg itself, and the choice of a version."""

import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.lab.soak import examples
from tklb.diff.packages import choose_version, compare_versions

# Valid for dpkg: it begins with a digit, and a hyphen is followed by a revision.
UPSTREAM = st.tuples(st.sampled_from("019"), st.text("019azAZ.+~", max_size=6)).map("".join)
VERSIONS = st.builds(
    lambda epoch, upstream, revision: f"{epoch}{upstream}{revision}",
    st.sampled_from(["", "", "0:", "1:"]),
    UPSTREAM,
    st.one_of(st.just(""), st.text("019az.+~", min_size=1, max_size=4).map("-{}".format)),
)


def ask_dpkg(one: str, other: str) -> int:
    for sign, result in (("lt", -1), ("eq", 0), ("gt", 1)):
        done = subprocess.run(["dpkg", "--compare-versions", one, sign, other], check=False, capture_output=True)
        if done.returncode == 0:
            return result
    raise AssertionError(f"dpkg has no order for {one} and {other}")


@settings(max_examples=examples(60), deadline=None)
@given(VERSIONS, VERSIONS)
@example("1.0", "1.0-0")
@example("1.18-6~deb12u1", "1.18-6")
@example("2:1.02.185-2", "1.9")
@example("1.4.0~rc1", "1.4.0")
@example("9.2.0-1~bpo12+1", "9.2.0-1")
@example("1.0+b1", "1.0")
@example("0", "0-0")
@example("1a", "1+")
def test_order_is_that_of_dpkg(one: str, other: str) -> None:
    assert compare_versions(one, other) == ask_dpkg(one, other)


@given(VERSIONS, VERSIONS)
def test_order_has_two_directions(one: str, other: str) -> None:
    assert compare_versions(one, other) == -compare_versions(other, one)
    assert compare_versions(one, one) == 0


def test_a_version_of_any_length_has_a_place() -> None:
    assert compare_versions("1" * 9000, "1" * 9001) == -1


@pytest.mark.parametrize(
    ("wanted", "offered", "candidate", "held", "chosen"),
    [
        ("2", ["2", "3"], "3", False, None),
        ("2", ["2", "3"], "3", True, "2"),
        ("2", ["1", "3"], "3", True, None),
        ("2", ["1", "2"], "1", False, "2"),
        ("2~bpo12+1", ["1", "2~bpo12+1"], "1", False, "2~bpo12+1"),
        ("2~bpo12+1", ["1", "2~bpo12+2", "9"], "1", False, "2~bpo12+2"),
        ("2", ["1"], "1", False, None),
        ("2", ["1"], "1", True, None),
        ("2", ["1", "3"], "1", True, "3"),
        ("", ["1"], "1", True, None),
        ("2", [], "", True, None),
    ],
)
def test_version_to_ask_for(wanted: str, offered: list[str], candidate: str, held: bool, chosen: str | None) -> None:
    assert choose_version(wanted, offered, candidate, held=held) == chosen

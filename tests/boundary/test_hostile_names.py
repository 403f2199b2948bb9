"""Names that look like options, texts of a shell or ends of a string reach Debian's own tools as they are.

The judges are those tools. Touches a clone of the lab.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from tests.lab.appliance import Appliance, clone
from tklb.errors import ProgramFailed
from tklb.host.registries.alternatives import set_alternative
from tklb.host.registries.diversions import add_diversion, read_diversions
from tklb.host.registries.stat_overrides import add_stat_override, read_stat_overrides
from tklb.host.services import restart
from tklb.model.registries.decisions import AlternativeGroup, Choice, Diversion, StatOverride

pytestmark = pytest.mark.lab
NAMES = (
    b"-dash", b"--rename", b"quo'te", b'quo"te', b"back\\slash", b"per%scent%n", b"two words", b"$(touch made)",
    b"`touch made`", b";touch made", b"star*?[a]", "line\u2028end".encode(), b"\xff\xfe", b"#5", b"~root", b"{a,b}",
)  # fmt: skip


@pytest.fixture(scope="module")
def box() -> Iterator[Appliance]:
    with clone("core", hostname="names") as machine:
        (machine.root / "opt/names").mkdir()
        for name in NAMES:
            (machine.root / os.fsdecode(b"opt/names/" + name)).write_text("#!/bin/sh\n")
        yield machine


def paths() -> list[bytes]:
    return [b"/opt/names/" + name for name in NAMES]


def ask(box: Appliance, *command: str) -> bytes:
    done: bytes = box.run(["env", "LC_ALL=C", *command], text=False).stdout
    return done


def test_local_diversion_has_the_name_that_it_was_given(box: Appliance) -> None:
    for path in paths():
        add_diversion(Diversion(path, path + b".kept", b""), bytes(box.root))
    listed = ask(box, "dpkg-divert", "--list", "/opt/names/*").splitlines()
    assert set(listed) == {b"local diversion of %b to %b.kept" % (path, path) for path in paths()}
    assert {one.path for one in read_diversions(bytes(box.root))} >= set(paths())
    assert {os.fsencode(name) for name in os.listdir(box.root / "opt/names")} == {name + b".kept" for name in NAMES}
    for name in NAMES:
        os.rename(
            os.path.join(bytes(box.root), b"opt/names", name + b".kept"), box.root / os.fsdecode(b"opt/names/" + name)
        )


def test_override_of_owner_and_mode_has_the_name_that_it_was_given(box: Appliance) -> None:
    for path in paths():
        add_stat_override(StatOverride(path, b"root", b"root", 0o640), bytes(box.root))
    listed = ask(box, "dpkg-statoverride", "--list").splitlines()
    assert {b"root root 640 " + path for path in paths()} <= set(listed)
    assert {one.path for one in read_stat_overrides(bytes(box.root))} >= set(paths())
    modes = [(box.root / os.fsdecode(path[1:])).stat().st_mode & 0o7777 for path in paths()]
    assert set(modes) == {0o640}


def test_alternative_has_the_name_that_it_was_given(box: Appliance) -> None:
    for number, path in enumerate(paths()):
        group = AlternativeGroup(b"odd%d" % number, b"/usr/local/bin/odd%d" % number, None, (Choice(path, 5, ()),))
        set_alternative(group, bytes(box.root))
        assert ask(box, "update-alternatives", "--list", f"odd{number}") == path + b"\n"


@pytest.mark.parametrize("name", [b"--remove-all", b"--remove", b"-x"])
def test_group_of_alternatives_with_the_name_of_an_option_changes_no_other(box: Appliance, name: bytes) -> None:
    before = ask(box, "update-alternatives", "--get-selections").splitlines()
    assert len(before) > 3
    group = AlternativeGroup(name, b"/usr/local/bin/x", None, (Choice(b"/bin/true", 5, ()),))
    with contextlib.suppress(ProgramFailed):
        set_alternative(group, bytes(box.root))
    after = ask(box, "update-alternatives", "--get-selections").splitlines()
    assert [line for line in after if line.split()[0] != name] == before
    box.run(["rm", "-f", f"/var/lib/dpkg/alternatives/{name.decode()}", "/usr/local/bin/x"])


def test_service_with_the_name_of_an_option_is_not_given_to_any_tool() -> None:
    names = ["--now", "-a", "a b", "a;b", "", "../x"]
    assert [item.reason for item in restart(names)] == ["not a valid name of a service"] * len(names)

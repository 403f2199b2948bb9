"""From a usual machine to a small one: cloud, container and minimal images lack packages that "every Debian has".

Takes the lab's machines and Debian's archive; touches clones and folders of its own.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.lab.appliance import Appliance, clone, packages_layer
from tests.lab.soak import SOAK

pytestmark = pytest.mark.lab

SHARE = "/mnt/share"
RULESET = "table inet own {\n chain input {\n  type filter hook input priority 0; policy drop;\n }\n}\n"


class Trip(NamedTuple):
    """Both machines after the restore, and the report of it."""

    there: dict[str, tuple[str, str]]
    b: Appliance
    report: dict[str, Any]


def list_packages(machine: Appliance) -> dict[str, tuple[str, str]]:
    """Ask the distribution's own tools: states and marks by name."""
    shown = machine.run(["dpkg-query", "-W", "-f", "${binary:Package}\t${db:Status-Abbrev}\n"]).stdout
    states = dict(line.split("\t") for line in shown.splitlines())
    automatic = set(machine.run(["apt-mark", "showauto"]).stdout.split())
    return {name: (state.strip(), "auto" if name in automatic else "manual") for name, state in states.items()}


def travel(names: tuple[str, str], folder: Path, on_a: tuple[str, ...], on_b: tuple[str, ...]) -> Iterator[Trip]:
    binds = {folder: SHARE}
    with clone(names[0], tklb=True, binds=binds, layers=[packages_layer(names[0], "a", *on_a)]) as a:
        (a.root / "etc/nftables.conf").write_text(RULESET)
        (a.root / "etc/cron.d/own").write_text("5 4 * * * root /usr/local/bin/own\n")
        a.run(["tklb", "init", "--target", f"file://{SHARE}/target"])
        a.run(["tklb", "backup"])
        a.run(["tklb", "key", "escrow", "--no-passphrase", f"{SHARE}/key"])
        there = list_packages(a)
    with clone(names[1], hostname="b", tklb=True, binds=binds, layers=[packages_layer(names[1], "b", *on_b)]) as b:
        way = ["tklb", "restore", "--json", "--target", f"file://{SHARE}/target", "--key", f"{SHARE}/key"]
        yield Trip(there, b, json.loads(b.run([*way, "--yes"], timeout=600).stdout))


@pytest.fixture(scope="module")
def bookworm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trip]:
    yield from travel(
        ("core", "minbase-12"),
        tmp_path_factory.mktemp("bookworm"),
        ("chrony", "postfix"),
        ("systemd-timesyncd", "exim4"),
    )


@pytest.fixture(scope="module")
def trixie(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trip]:
    yield from travel(
        ("trixie-core", "minbase-13"), tmp_path_factory.mktemp("trixie"), ("ntpsec",), ("systemd-timesyncd",)
    )


def test_all_packages_of_the_usual_machine_are_there_with_their_marks(bookworm: Trip) -> None:
    here = list_packages(bookworm.b)
    assert {name: here.get(name) for name in bookworm.there} == bookworm.there
    assert bookworm.report["skipped"] == []
    assert {"cron", "nftables", "locales", "logrotate"} <= bookworm.there.keys()
    bookworm.b.run(["nft", "--check", "--file", "/etc/nftables.conf"])
    assert "Depends" not in bookworm.b.run(["apt-get", "check"]).stdout


def test_packages_that_exclude_each_other_change_places_in_one_step(bookworm: Trip) -> None:
    swaps = {step["item"]: step["detail"] for step in bookworm.report["steps"] if step["step"] == "replace-package"}
    assert swaps.keys() == {"chrony", "postfix"}
    assert swaps["chrony"] == "replace systemd-timesyncd by chrony"
    assert "exim4-daemon-light" in swaps["postfix"]
    unknown = {item["item"] for item in bookworm.report["unknown"] if item["kind"] == "package"}
    assert unknown.isdisjoint({"systemd-timesyncd", "exim4-daemon-light"})
    here = {name for name, (state, _) in list_packages(bookworm.b).items() if state == "ii"}
    assert here & {"chrony", "postfix", "systemd-timesyncd", "exim4-daemon-light"} == {"chrony", "postfix"}


def test_second_restore_leaves_the_packages_alone(bookworm: Trip) -> None:
    plan = json.loads(bookworm.b.run(["tklb", "restore", "--json", "--dry-run"]).stdout)
    assert not [step for step in plan["steps"] if step["step"].endswith(("-package", "-source", "-architecture"))]


def test_override_forces_a_package_of_the_install_state_into_the_delta(bookworm: Trip) -> None:
    shown = json.loads(bookworm.b.run(["tklb", "delta", "--json", "package:cron"]).stdout)
    assert "cron" in shown["packages"]["added"]
    told = bookworm.b.run(["tklb", "backup", "--dry-run", "--json", "package:no-such"], check=False)
    assert told.returncode == 3
    assert [item["item"] for item in json.loads(told.stdout)["skipped"]] == ["package:no-such"]


@pytest.mark.skipif(not SOAK, reason="a soak alone: TKLB_SOAK=1")
def test_small_machine_of_trixie_gets_all_too(trixie: Trip) -> None:
    here = list_packages(trixie.b)
    assert {name: here.get(name) for name in trixie.there} == trixie.there
    swaps = [step["detail"] for step in trixie.report["steps"] if step["step"] == "replace-package"]
    assert swaps == ["replace systemd-timesyncd by ntpsec"]

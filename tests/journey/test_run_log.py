"""The log of a run: one line a verb, in order, with numbers; and never a secret. Needs root."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from tests.lab.appliance import clone
from tests.lab.box import Box

pytestmark = pytest.mark.lab

PASSPHRASE, CONTENT = "canary passphrase of gold", "canary content of a file"
SIZE = r"[\d.]+ k?M?B"
OPEN = r"read \d+ ledger entr(y|ies) at file:///mnt/target"
UP_TO_COMPARE = (
    OPEN,
    r"collected \d+ packages \(\d+ added, \d+ removed\) and accounts \(\d+ users? added, \d+ changed\)",
    rf"walked \d+ files in [\d.]+ s: \d+ differ from the install state \({SIZE}\), \d+ are deleted",
    rf"compared with the last snapshot: \d+ changed, \d+ with other metadata, \d+ deleted, {SIZE} to read",
)
FROM_ENCODE = (
    rf"encoded \d+ volumes? \({SIZE}\) from files of {SIZE} in [\d.]+ s \({SIZE}/s\)",
    r"sealed snapshot \d{8}T\d{6}Z as ledger entry \d+",
)
VERIFY = (
    r"checked 2 ledger entries at file:///mnt/target: 0 problems",
    r"listed \d+ volumes: 0 missing or of another size",
    rf"hashed \d+ volumes, {SIZE} in [\d.]+ s \({SIZE}/s\): 0 damaged",
)


def test_log_of_a_run_names_its_verbs_in_order_and_no_secret() -> None:
    with clone("core", hostname="a", tklb=True) as a:
        (a.root / "root/passphrase").write_text(PASSPHRASE + "\n")
        (a.root / "root/passphrase").chmod(0o600)
        a.run(["tklb", "init", "--target", "file:///mnt/target", "--passphrase-file", "/root/passphrase"])
        (a.root / "srv/page").write_text(CONTENT)
        assert_order(run(a, "backup"), [*UP_TO_COMPARE, *FROM_ENCODE])
        (a.root / "srv/page").write_text(CONTENT * 2)
        assert_order(run(a, "backup"), [*UP_TO_COMPARE, *FROM_ENCODE])
        assert_order(run(a, "backup"), [*UP_TO_COMPARE, r"nothing changed since snapshot \d{8}T\d{6}Z"])
        assert_order(run(a, "verify"), VERIFY)
        lose_volume(a)
        assert_order(
            run(a, "verify"), [r"listed \d+ volumes: 1 missing", r"found the cost of 1 problem: \d snapshots?"]
        )
        a.run(["tklb", "-vv", "backup", "--full"])
        logs = b"".join(path.read_bytes() for path in (a.root / "var/log/tklb").iterdir())
        secret = (a.root / "var/lib/tklb/secret").read_bytes().split()[-1]
        assert logs
        assert not [word for word in (PASSPHRASE.encode(), CONTENT.encode(), secret) if word in logs]


def run(machine: Box, *command: str) -> str:
    """Run tklb with -v; give its log file, after a check that the terminal got the same lines."""
    before = set((machine.root / "var/log/tklb").iterdir())
    done = machine.run(["tklb", "-v", *command], check=False)
    (path,) = set((machine.root / "var/log/tklb").iterdir()) - before
    messages = re.findall(r"^\S+ \S+ INFO tklb\.(?!cli)[\w.]+: (.*)$", path.read_text(), re.MULTILINE)
    assert not [message for message in messages if message not in done.stderr]
    return "\n".join(messages)


def lose_volume(machine: Box) -> None:
    next(iter(sorted((machine.root / "mnt/target/volumes").glob("*inc*.difftar.gpg")))).unlink()


def assert_order(log: str, patterns: Sequence[str]) -> None:
    """Each pattern is on a line of its own, after the one before."""
    at = 0
    for pattern in patterns:
        found = re.compile(rf"^{pattern}", re.MULTILINE).search(log, at)
        assert found, f"no line {pattern!r} in:\n{log[at:]}"
        at = found.end()

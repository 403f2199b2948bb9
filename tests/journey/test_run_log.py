"""The log of a run: one line a verb, in order, with numbers; and never a secret. Needs root."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.lab.appliance import clone
from tests.lab.box import Box
from tests.lab.repository import repository_layer
from tests.lab.used_server import ACME_SOURCE

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
FINGERPRINT = r"[0-9a-f]{4}(-[0-9a-f]{4}){3}"
INIT = (
    r"detected profile debian-12-core",
    r"tried every operation at file:///mnt/target; its clock differs by 0:00:00",
    rf"made key {FINGERPRINT}, in /var/lib/tklb/secret",
    rf"encrypted key {FINGERPRINT} with the passphrase, into /var/lib/tklb/key.asc",
    r"wrote /etc/tklb/tklb.toml: target file:///mnt/target",
    r"file:///mnt/target keeps a copy of the key, which the passphrase opens",
)
RESTORE = (
    r"selected snapshot \d{8}T\d{6}Z, entry 1 of file:///mnt/target, age \d:\d\d:\d\d",
    rf"downloaded \d+ volumes?, {SIZE} in [\d.]+ s \({SIZE}/s\)",
    rf"decoded \d+ files, {SIZE}, from 1 shard in [\d.]+ s",
    r"planned \d+ steps: 2 add-source, 2 install-package, .*1 merge-accounts, \d+ write-file",
    r"added 2 apt source files \(/etc/apt/keyrings/acme.gpg /etc/apt/sources.list.d/acme.sources\) in [\d.]+ s",
    r"installed 2 packages \(acme-common acme-tools\) in [\d.]+ s",
    r"planned \d+ steps: ",
    r"merged 1 set of accounts \(new users: alice",
    rf"wrote \d+ files, {SIZE}, and deleted 1 file in [\d.]+ s",
    r"restarted \d services? \(cron",
    rf"took over host id [0-9a-f]{{32}} with key {FINGERPRINT}: the next backup continues after entry 1",
    r"applied \d+ steps in [\d.]+ s: \d+ done, 0 skipped",
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


def test_log_of_a_way_to_another_machine_names_its_verbs_in_order_and_no_secret(tmp_path: Path) -> None:
    layers, binds = [repository_layer()], {str(tmp_path): "/mnt"}
    with clone("core", hostname="a", tklb=True, binds=binds, layers=layers) as a:
        (tmp_path / "passphrase").write_text(PASSPHRASE + "\n")
        (tmp_path / "passphrase").chmod(0o600)
        with_passphrase = ("--passphrase-file", "/mnt/passphrase")
        assert_order(run(a, "init", "--target", "file:///mnt/target", *with_passphrase), INIT)
        live(a)
        a.run(["tklb", "backup"])
        lines = [rf"wrote a copy of key {FINGERPRINT} \(bare\) to /mnt/key"]
        assert_order(run(a, "key", "escrow", "--no-passphrase", "/mnt/key"), lines)
        secrets = [(a.root / "var/lib/tklb/secret").read_bytes().split()[-1], PASSPHRASE.encode(), CONTENT.encode()]
        lines = [rf"made key {FINGERPRINT}; key {FINGERPRINT} is kept for 1 snapshot"]
        (tmp_path / "passphrase").write_text("another one than the first\n")
        assert_order(run(a, "key", "rotate", *with_passphrase), lines)
        assert not [word for word in secrets if word in logs_of(a)]
    with clone("core", hostname="b", tklb=True, binds=binds, layers=layers) as b:
        (b.root / "var/log/tklb").mkdir(0o700, exist_ok=True)
        way = ("--target", "file:///mnt/target", "--key", "/mnt/key")
        assert_order(run(b, "restore", *way, "--yes"), RESTORE)
        lines = [*RESTORE[:3], r"extracted \d+ files of snapshot \d{8}T\d{6}Z into /root/decoded, skipped 0"]
        assert_order(run(b, "restore", *way, "--into", "/root/decoded"), lines)
        assert not [word for word in secrets if word in logs_of(b)]


def live(machine: Box) -> None:
    """A user, a package of another source, a file, and one less."""
    machine.run(["useradd", "--create-home", "alice"])
    (machine.root / "etc/apt/keyrings").mkdir(exist_ok=True)
    (machine.root / "etc/apt/keyrings/acme.gpg").write_bytes((machine.root / "usr/share/acme/acme.gpg").read_bytes())
    (machine.root / "etc/apt/sources.list.d/acme.sources").write_bytes(ACME_SOURCE)
    machine.run(["apt-get", "update"])
    machine.run(["apt-get", "install", "-y", "acme-tools"], env={"DEBIAN_FRONTEND": "noninteractive"})
    (machine.root / "srv/page").write_text(CONTENT)
    (machine.root / "etc/motd").unlink()


def logs_of(machine: Box) -> bytes:
    found = b"".join(path.read_bytes() for path in (machine.root / "var/log/tklb").iterdir())
    assert found
    return found


def run(machine: Box, *command: str) -> str:
    """Run tklb with -v; give its log file, after a check that the terminal got the same lines."""
    before = set((machine.root / "var/log/tklb").glob("*.log"))
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

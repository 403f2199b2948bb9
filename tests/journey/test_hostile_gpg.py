"""The options of gpg for the whole machine, in /etc/gnupg/gpg.conf, change nothing, or tklb names file and line."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.appliance import Appliance, clone
from tests.lab.soak import some

pytestmark = pytest.mark.lab

# a machine for people who sign mail: each of these would change what tklb writes or reads
OVERRIDDEN = """
armor
textmode
output /tmp/leak
max-output 3
compress-algo bzip2
cipher-algo CAST5
digest-algo SHA1
s2k-mode 1
s2k-count 1024
s2k-cipher-algo CAST5
encrypt-to 0xDEADBEEFDEADBEEF
hidden-encrypt-to 0xDEADBEEFDEADBEEF
default-recipient-self
throw-keyids
for-your-eyes-only
use-embedded-filename
compliance de-vs
pinentry-mode error
passphrase wrong
batch
trust-model tofu
verbose
"""
FORCED = "[force]\ncipher-algo 3DES"
REFUSED = ["no-literal", "dry-run", "status-fd 77", "disable-cipher-algo AES256", "log-file /tmp/leak", FORCED]


def run(machine: Appliance, *words: str) -> tuple[int, Any]:
    script = '"$@"; echo "$?"'
    *output, status = machine.run(["sh", "-c", script, "sh", "tklb", "--json", *words], timeout=300).stdout.splitlines()
    return int(status), json.loads("\n".join(output)) if output else None


def configure(machine: Appliance, text: str) -> None:
    file = machine.root / "etc/gnupg/gpg.conf"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


@pytest.fixture(scope="module", params=some(["core", "trixie-core"], 2, first=1))  # gpg 2.2 and 2.4 differ
def machine(request: pytest.FixtureRequest) -> Iterator[Appliance]:
    """A machine that was set up, and has a snapshot, while gpg read the overridden options."""
    with clone(request.param, tklb=True) as machine:
        (machine.root / "root/passphrase").write_text("correct horse battery staple\n")
        (machine.root / "root/passphrase").chmod(0o600)
        configure(machine, OVERRIDDEN)
        words = ("init", "--target", "file:///srv/backups", "--passphrase-file", "/root/passphrase")
        assert run(machine, *words)[0] == 0
        (machine.root / "srv/own").write_text("one" * 1000)
        assert run(machine, "backup")[0] == 0
        yield machine


def test_options_that_tklb_overrides_change_nothing(machine: Appliance) -> None:
    configure(machine, OVERRIDDEN)
    (machine.root / "srv/own").write_text("two" * 1000)
    assert run(machine, "backup")[0] == 0
    checked = run(machine, "verify", "--data")[1]
    assert (checked["ok"], checked["problems"]) == (True, [])
    assert run(machine, "restore", "--into", "/mnt/out")[0] == 0
    assert (machine.root / "mnt/out/srv/own").read_text() == "two" * 1000
    assert not (machine.root / "tmp/leak").exists()


def test_stock_gpg_without_these_options_reads_what_was_written_with_them(machine: Appliance) -> None:
    configure(machine, "")
    opened = "gpg --homedir /tmp --batch --pinentry-mode loopback --passphrase-file /root/passphrase --decrypt"
    key = machine.run(["sh", "-c", f"{opened} /srv/backups/key.asc 2>/dev/null"]).stdout.strip()
    read = "gpg --homedir /tmp --batch --pinentry-mode loopback --passphrase-fd 0 --list-packets"
    script = f"for volume in /srv/backups/volumes/*.gpg; do {read} $volume <<END\n$KEY\nEND\ndone"
    packets = machine.run(["env", f"KEY={key}", "sh", "-c", script + " 2>&1"]).stdout
    assert "cipher 9" in packets
    assert "cipher 3" not in packets
    assert "bzip2" not in packets


@pytest.mark.parametrize("option", REFUSED)
def test_an_option_that_nothing_undoes_is_named_with_its_file_and_line(machine: Appliance, option: str) -> None:
    configure(machine, f"# of this machine\n{option}\n")
    (machine.root / "srv/own").write_text(option)
    for words in (("backup",), ("key", "passphrase", "--passphrase-file", "/root/passphrase")):
        status, result = run(machine, *words)
        assert (status, result["error"]["name"]) == (21, "ProgramFailed")
        assert "/etc/gnupg/gpg.conf, line 2" in result["error"]["message"]


def test_an_option_that_gpg_does_not_know_is_no_bug_of_tklb(machine: Appliance) -> None:
    configure(machine, "no-such-option\n")
    (machine.root / "srv/own").write_text("unknown")
    for words in (("backup",), ("key", "passphrase", "--passphrase-file", "/root/passphrase")):
        status, result = run(machine, *words)
        assert status in (0, 3, 21)  # gpg 2.2 warns, 2.4 refuses
        assert status != 21 or "/etc/gnupg/gpg.conf" in result["error"]["message"]
    configure(machine, "")
    assert run(machine, "backup")[0] in (0, 3)

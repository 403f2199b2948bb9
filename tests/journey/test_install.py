"""tklb put into fresh root file systems, and taken away again without a trace but keys and backups.

Takes the lab's roots, each made barer by what tklb brings itself; touches clones of them and the folder of wheels.
"""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.appliance import needs_layer, tklb_layer, tklb_layers
from tests.lab.box import Box
from tests.lab.roots import layer, root
from tests.lab.soak import some

HOUSE = Path(__file__).parents[2]
TREE = "/mnt/tklb"
# apt's and dpkg's own books, and what the kernel and ldconfig keep
BOOKS = ("var/lib/apt", "var/lib/dpkg", "var/cache", "var/log/", "dev", "proc", "sys", "run", "etc/ld.so.cache")
BROUGHT = ("python3", "gpg", "ca-certificates", "libpython3-stdlib")

# All clients that S3 and signing in to it need, and a role taken on, as far as one gets without a net; then a key for
# SSH, and a printed page with a code on it.
LIBRARIES = """
import io, sys
sys.path.insert(0, "/opt/tklb/lib")
import boto3, botocore.exceptions, botocore.session, gnupg, paramiko, segno
from reportlab.pdfgen import canvas

session = boto3.Session(region_name="eu-central-1", aws_access_key_id="a", aws_secret_access_key="b")
for service in ("s3", "sts", "sso", "sso-oidc", "signin"):
    session.client(service)
session.client("s3").get_paginator("list_objects_v2")
acting = boto3.Session(botocore_session=botocore.session.Session(profile="acting"))
try:
    acting.client("s3").list_buckets()
except botocore.exceptions.EndpointConnectionError as exc:
    assert "//sts." in str(exc), exc
else:
    sys.exit("a role was taken on from nobody")
assert paramiko.ECDSAKey.generate().sign_ssh_data(b"")
page = canvas.Canvas(io.BytesIO())
for row, bits in enumerate(segno.make("a key", error="h").matrix):
    for column, bit in enumerate(bits):
        page.rect(column, row, 1, 1, stroke=0, fill=bit)
page.drawString(10, 100, "a key")
assert page.getpdfdata().startswith(b"%PDF")
"""
PROFILES = """
[default]
region = eu-central-1
[profile acting]
region = eu-central-1
role_arn = arn:aws:iam::123456789012:role/backup
source_profile = own
[profile own]
aws_access_key_id = a
aws_secret_access_key = b
"""

pytestmark = [pytest.mark.lab, pytest.mark.slow]
RELEASES = ["core", "trixie-core"]


@pytest.fixture
def bare(request: pytest.FixtureRequest) -> Iterator[Box]:
    """A machine without Python, gpg and certificates."""
    clean = root(getattr(request, "param", "core"))
    lowers = [layer("bare", [clean], take_away_what_tklb_brings), clean]
    with Box(lowers, hostname="bare", binds={HOUSE: TREE}) as machine:
        shutil.copy("/etc/resolv.conf", machine.root / "etc/resolv.conf")
        yield machine


@pytest.fixture(params=some(["minbase-12", "minbase-13"], 2))
def minimal(request: pytest.FixtureRequest) -> str:
    """The name of a root that never had what tklb needs."""
    return str(request.param)


@pytest.fixture
def filled(minimal: str) -> Iterator[Box]:
    """A machine with tklb, which brought what it needs: its packages came when the installer last changed."""
    lowers = [*tklb_layers(minimal), needs_layer(minimal), root(minimal)]
    with Box(lowers, hostname="bare", binds={HOUSE: TREE}) as machine:
        shutil.copy("/etc/resolv.conf", machine.root / "etc/resolv.conf")
        yield machine


@pytest.fixture
def box(request: pytest.FixtureRequest) -> Iterator[Box]:
    """A machine with tklb, which had all that it needs."""
    name = getattr(request, "param", "core")
    with Box([tklb_layer(name), root(name)], hostname="ready") as machine:
        yield machine


def take_away_what_tklb_brings(machine: Box) -> None:
    machine.run(["apt-get", "-qy", "autoremove", "--purge", *BROUGHT])


def install(machine: Box, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [HOUSE / "scripts/install", "--root", machine.root, *arguments]
    return subprocess.run(command, env=os.environ | (env or {}), capture_output=True, text=True, check=False)


def tree(machine: Box) -> dict[str, tuple[int, int, int, str]]:
    """Mode, owner, size or link of every path that is not in a book of apt's."""
    seen = {}
    for folder, folders, files in os.walk(machine.root):
        for name in folders + files:
            path = Path(folder, name)
            inside = path.relative_to(machine.root).as_posix()
            status = path.lstat()
            size = status.st_size if path.is_file() else 0
            link = os.readlink(path) if path.is_symlink() else ""
            if not inside.startswith(BOOKS):
                seen[inside] = (status.st_mode, status.st_uid, size, link)
    return seen


def stamps(machine: Box) -> dict[Path, tuple[int, int]]:
    ours = (path for place in ("opt/tklb", "usr/local", "etc/tklb") for path in (machine.root / place).rglob("*"))
    return {path: (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in ours}


def test_comes_runs_and_goes(minimal: str, filled: Box) -> None:
    with Box([root(minimal)], hostname="bare", binds={HOUSE: TREE}) as machine:
        shutil.copy("/etc/resolv.conf", machine.root / "etc/resolv.conf")
        before = tree(machine)
    assert filled.run(["tklb", "--version"]).stdout.startswith("tklb")
    assert (filled.root / "opt/tklb/share/profiles/debian-12-core/profile.toml").exists()

    installed = stamps(filled)
    assert install(filled).returncode == 0
    assert stamps(filled) == installed

    gone = install(filled, "--uninstall")
    assert gone.returncode == 0, gone.stderr
    after = tree(filled)
    # netbase makes the file and leaves it to the administrator
    assert {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)} <= {"etc/hosts"}


@pytest.mark.parametrize("bare", some(RELEASES, 2), indirect=True)
def test_quickstart_takes_a_first_backup_of_a_bare_machine_and_its_source_tree_is_no_part_of_the_delta(
    bare: Box,
) -> None:
    subprocess.run([HOUSE / "scripts/install", "--fetch"], check=True)
    tree = bare.root / "root/tklb"
    tree.mkdir()
    for name in ("tklb", "profiles", "hooks", "man", "scripts"):
        shutil.copytree(HOUSE / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("LICENSE", "requirements.txt"):
        shutil.copy(HOUSE / name, tree)
    (tree / "wheels").symlink_to(f"{TREE}/wheels")
    first = start_quickly(bare, "/root/tklb")
    assert "== The snapshots" in first.stdout
    assert [snapshot["kind"] for snapshot in json.loads(bare.run(["tklb", "list", "--json"]).stdout)] == ["full"]
    # the lab's tree in /mnt, which is not that of this installation, is outside of the backup: status 3
    assert json.loads(bare.run(["tklb", "status", "--json"], check=False).stdout)["state"] == "ok"
    assert (bare.root / "var/lib/tklb/secret").stat().st_mode & 0o777 == 0o600

    assert what_a_newcomer_sees(bare) == set()
    told = bare.run(["tklb", "why", "/root/tklb/man/tklb.1"]).stdout
    assert "tklb was installed from /root/tklb" in told
    start_quickly(bare, "/root/tklb")
    assert len(json.loads(bare.run(["tklb", "list", "--json"]).stdout)) == 1

    (bare.root / "etc/tklb/overrides").write_text("/root/tklb/scripts\npackage:python3\n")
    assert "/root/tklb/scripts/install" in what_a_newcomer_sees(bare)
    shutil.rmtree(tree / "tklb")
    (tree / "notes").write_text("the owner's\n")
    assert "/root/tklb/notes" in what_a_newcomer_sees(bare)


def start_quickly(machine: Box, tree: str = TREE) -> subprocess.CompletedProcess[str]:
    """Run quickstart; it may name the tree that the lab has in /mnt, if it is not that of the installation."""
    done = machine.run([f"{tree}/scripts/quickstart"], timeout=600, check=False)
    assert done.returncode in (0, 3), done.stderr
    return done


def what_a_newcomer_sees(machine: Box) -> set[str]:
    """What the delta has beside the configuration of tklb itself, and the resolver that this test planted."""
    delta = json.loads(machine.run(["tklb", "delta", "--json"]).stdout)
    files = {entry["path"] for entry in delta["files"] if not f"{entry['path']}/".startswith("/etc/tklb/")}
    return (files - {"/etc/resolv.conf"}) | {f"package:{name}" for name in delta["packages"]["added"]}


# What names a machine, and what its PAM tools wrote: no package vouches for these where no profile was recorded
OF_ANY_MACHINE = {"/etc/fstab", "/etc/hostname", "/etc/hosts", "/etc/machine-id"}
OF_PAM = {f"/etc/pam.d/common-{name}" for name in ("account", "auth", "password", "session", "session-noninteractive")}


def test_newcomer_on_a_minimal_machine_sees_no_work_of_packages(filled: Box) -> None:
    filled.run(["tklb", "init"])
    assert what_a_newcomer_sees(filled) <= OF_ANY_MACHINE | OF_PAM


@pytest.mark.parametrize("box", RELEASES, indirect=True)
def test_libraries_have_all_they_need_and_little_more(box: Box) -> None:
    (box.root / "root/.aws").mkdir()
    (box.root / "root/.aws/config").write_text(PROFILES)
    box.run(["python3", "-IS"], input=LIBRARIES, env={"AWS_MAX_ATTEMPTS": "1", "AWS_EC2_METADATA_DISABLED": "true"})
    size = sum(path.lstat().st_size for path in (box.root / "opt/tklb/lib/botocore").rglob("*"))
    assert size < 8_000_000


def test_uninstall_keeps_keys_backups_and_edits(box: Box) -> None:
    kept = ["var/lib/tklb/secret", "var/backups/tklb/volumes/one", "etc/tklb/overrides", "etc/tklb/hooks.d/mine"]
    lost = ["var/lib/tklb/stage/one", "var/cache/tklb/one", "var/log/tklb/one"]
    for name in kept + lost:
        (box.root / name).parent.mkdir(parents=True, exist_ok=True)
        (box.root / name).write_text("the owner's\n")
    gone = install(box, "--uninstall")
    assert gone.returncode == 0
    assert all((box.root / name).exists() for name in kept)
    assert not any((box.root / name).parent.exists() for name in lost)
    assert "var/lib/tklb/secret" in gone.stderr
    assert "etc/tklb/overrides" in gone.stderr


def test_unedited_configuration_goes(box: Box) -> None:
    box.run(["tklb", "init"])
    assert install(box, "--uninstall").returncode == 0
    assert not (box.root / "etc/tklb").exists()
    assert (box.root / "var/lib/tklb/secret").exists()


def test_packages_others_have_come_to_need_stay(filled: Box) -> None:
    filled.run(["apt-get", "-qy", "install", "--no-install-recommends", "lsb-release", "python3-yaml"])
    gone = install(filled, "--uninstall")
    assert "kept packages that others need" in gone.stderr
    assert filled.run(["python3", "-c", "import yaml"]).returncode == 0


def test_running_backup_is_not_disturbed(box: Box) -> None:
    lock = box.root / "var/lib/tklb/lock"
    lock.parent.mkdir(mode=0o700, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused = install(box, "--uninstall")
    assert refused.returncode == 1
    assert "a tklb run is going on" in refused.stderr
    assert (box.root / "opt/tklb/manifest").exists()


def test_damaged_installation_is_mended_with_carried_wheels_and_no_index_and_damaged_wheels_are_refused(
    box: Box, tmp_path: Path
) -> None:
    carried = tmp_path / "wheels"
    shutil.copytree(HOUSE / "wheels", carried)
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": "/dev/null"}
    module = box.root / "opt/tklb/lib/tklb/errors.py"
    whole = module.read_bytes()
    module.write_bytes(b"")
    (box.root / "usr/local/bin/tklb").unlink()
    assert install(box, "--wheels", str(carried), env=nowhere).returncode == 0
    assert module.read_bytes() == whole
    assert box.run(["tklb", "--version"]).stdout.startswith("tklb")

    for wheel in carried.glob("*/click-*.whl"):
        wheel.write_bytes(wheel.read_bytes()[:-1] + b"x")
    (box.root / "opt/tklb/stamp").unlink()
    refused = install(box, "--wheels", str(carried), env=nowhere)
    assert refused.returncode == 1
    assert "the wheels could not be fetched" in refused.stderr
    assert box.run(["tklb", "--version"]).returncode == 0


def test_what_is_no_root_file_system_is_refused(tmp_path: Path) -> None:
    refused = subprocess.run(
        [HOUSE / "scripts/install", "--root", tmp_path], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "no Debian root file system" in refused.stderr
    assert not list(tmp_path.iterdir())

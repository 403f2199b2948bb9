"""What root runs is Debian's and tklb's own, wherever root stands: folder, environment and home are a stranger's.

Takes the lab's machines and the scripts; touches clones and temporary folders.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.lab.appliance import Appliance, clone

HOUSE = Path(__file__).parents[2]
MODULES = (
    "pip",
    "zipfile",
    "compileall",
    "platform",
    "sitecustomize",
    "usercustomize",
    "json",
    "click",
    "tklb",
    "boto3",
)
PROGRAMS = (
    "python3",
    "gpg",
    "apt-get",
    "dpkg",
    "dpkg-query",
    "dirname",
    "realpath",
    "sha256sum",
    "mktemp",
    "flock",
    "apt",
)
NOWHERE = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0"}


def plant(folder: Path, marker: str) -> dict[str, str]:
    """Fill a folder with what would leave a mark if anything ran it; give the environment that points there."""
    folder.mkdir()
    for name in MODULES:
        (folder / f"{name}.py").write_text(f"open({marker!r}, 'a').write({name!r})\n")
    for name in (*PROGRAMS, "pip3"):
        (folder / name).write_text(f"#!/bin/sh\necho {name} >>{marker}\nexit 1\n")
        (folder / name).chmod(0o755)
    (folder / ".bashrc").write_text(f"echo bashrc >>{marker}\n")
    (folder / "pip.conf").write_text(f"[global]\npython = {folder}/python3\n")
    return {"PIP_PYTHON": f"{folder}/python3"}


def surround(inside: str) -> dict[str, str]:
    """Variables that lead interpreters into a folder, seen from where they run."""
    return {
        "PATH": f"{inside}:{os.environ['PATH']}",
        "PYTHONPATH": inside,
        "PYTHONHOME": "",
        "PYTHONSTARTUP": f"{inside}/json.py",
        "BASH_ENV": f"{inside}/.bashrc",
        "ENV": f"{inside}/.bashrc",
        "CDPATH": inside,
        "HOME": inside,
        "BASH_FUNC_dirname%%": f"() {{ echo function >>{inside}/marker; }}",
        "TMPDIR": inside,
    }


@pytest.mark.parametrize("script", ["install", "quickstart"])
def test_scripts_run_nothing_of_the_folder_they_are_called_in(tmp_path: Path, script: str) -> None:
    folder, marker = tmp_path / "stranger", tmp_path / "stranger/marker"
    pip = plant(folder, str(marker))
    words = ["--fetch", "--wheels", "wheels"] if script == "install" else ["--help"]
    done = subprocess.run(
        [HOUSE / "scripts" / script, *words],
        cwd=folder,
        env=os.environ | surround(str(folder)) | pip | NOWHERE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not marker.exists(), marker.read_text()
    assert done.returncode == (1 if script == "install" else 0), done.stderr
    assert script != "install" or "the wheels could not be fetched" in done.stderr


@pytest.fixture
def a(tmp_path: Path) -> Appliance:
    with clone("core", hostname="a", tklb=True) as machine:
        plant(machine.root / "home/stranger", "/home/stranger/marker")
        yield machine


@pytest.mark.lab
@pytest.mark.slow
def test_tklb_runs_nothing_of_the_folder_it_is_called_in(a: Appliance) -> None:
    (a.root / "etc/tklb/overrides").write_text("-/home\n-/mnt\n")
    (a.root / "etc/kept").write_text("kept\n")
    around = surround("/home/stranger")
    tklb = "cd /home/stranger && exec /usr/local/bin/tklb"
    for words in ("init", "backup", "verify", "restore --into back"):
        a.run(["sh", "-c", f"{tklb} {words}"], env=around, timeout=300)
    assert (a.root / "home/stranger/back/etc/kept").read_text() == "kept\n"
    assert not (a.root / "home/stranger/marker").exists()

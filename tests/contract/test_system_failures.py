"""How file systems fail that are no ext4: FAT, NFS, CIFS. strace makes the system calls of a backend fail as they do.

Takes strace. A script uses the backend in a process of its own; touches a folder of the test.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.soak import some
from tklb.config.schema import Config
from tklb.storage.kinds import make_backend

SCRIPT = """
import hashlib, sys
from pathlib import Path
from tklb.errors import TklbError
from tklb.storage.local import LocalBackend
folder, act = Path(sys.argv[1]), sys.argv[2]
source = folder / "source"
source.write_bytes(b"content")
digest = hashlib.sha256(b"content").hexdigest()
target = LocalBackend(folder / "target")
print("ready", flush=True)
try:
    if act == "new":
        print(target.upload_new("ledger/1", source, digest).name)
    else:
        print(target.upload("volumes/a", source, digest))
except TklbError as exc:
    print(exc.name, exc.is_transient, exc)
"""


def use(folder: Path, act: str, *faults: str) -> str:
    """Use a backend while system calls fail; give the last line it prints."""
    make_backend(f"file://{folder}/target", Config())
    beside = [f"--inject={fault}" for fault in faults]
    traced = ",".join(fault.partition(":")[0] for fault in faults)
    command = ["strace", "-f", "-qq", "-o", folder / "trace", f"--trace={traced}", *beside]
    places = [f"--trace-path={folder}/target/volumes", f"--trace-path={folder}/target/volumes/a.new"]
    done = subprocess.run(
        [*command, *(places if act == "upload" else ()), sys.executable, "-c", SCRIPT, folder, act],
        check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert "ready" in done.stdout, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("faults", "result"),
    [
        (("renameat2:error=EINVAL",), "MADE"),  # NFS
        (("renameat2:error=ENOSYS",), "MADE"),
        (("renameat2:error=EINVAL", "link,linkat:error=EPERM"), "UNSURE"),  # FAT by FUSE
        (("renameat2:error=EINVAL", "link,linkat:error=EOPNOTSUPP"), "UNSURE"),  # CIFS
    ],
)
def test_new_object_is_made_where_the_file_system_lacks_an_operation(
    tmp_path: Path, faults: tuple[str, ...], result: str
) -> None:
    assert use(tmp_path, "new", *faults) == result
    assert os.listdir(tmp_path / "target/ledger") == ["1"]
    assert use(tmp_path, "new", *faults) == "EXISTS"
    assert os.listdir(tmp_path / "target/ledger") == ["1"]


FAILURES = {
    "fsync:error=EIO": "TargetUnreachable False",
    "fsync:error=ENOSPC": "TargetFull",
    "close:error=EDQUOT": "TargetFull",
    "close:error=ENOSPC": "TargetFull",
    "write:error=EFBIG": "TargetUnfit False",
    "openat:error=EACCES": "AccessRefused False",
    "openat:error=EROFS": "AccessRefused False",
    "openat:error=ENAMETOOLONG": "TargetUnfit False",
    "openat:error=ESTALE": "TargetUnreachable False",
    "rename:error=ESTALE": "TargetUnreachable False",
}


@pytest.mark.parametrize("fault", some(FAILURES, 3))
def test_failure_of_a_system_call_is_classed_by_its_number(tmp_path: Path, fault: str) -> None:
    result = use(tmp_path, "upload", fault)
    assert result.startswith(FAILURES[fault]), result
    assert os.listdir(tmp_path / "target/volumes") == []

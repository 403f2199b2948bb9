"""Mapped ACLs as the kernel takes them and getfacl(1) shows them."""

import os
import subprocess
from pathlib import Path

import pytest

from tklb.diff.attributes.acl import remap_acl

NAMES = ("system.posix_acl_access", "system.posix_acl_default")
TEXT = "u::rwx,u:104:rw-,u:105:r--,g::r-x,g:50:-w-,g:60:--x,m::rwx,o::---"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_kernel_takes_a_mapped_acl(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for folder in (theirs, ours):
        folder.mkdir()
    for kind in ([], ["-d"]):
        subprocess.run(["setfacl", *kind, "-m", TEXT, theirs], check=True)
    for name in NAMES:
        os.setxattr(ours, name, remap_acl(os.getxattr(theirs, name), {104: 105, 105: 104}, {50: 999}))
    shown = subprocess.run(["getfacl", "-cnp", ours], capture_output=True, text=True, check=True).stdout
    assert [line for line in shown.splitlines() if line.startswith(("user:1", "default:user:1"))] == [
        "user:104:r--",
        "user:105:rw-",
        "default:user:104:r--",
        "default:user:105:rw-",
    ]
    assert [line for line in shown.splitlines() if line.startswith(("group:", "default:group:"))] == [
        "group::r-x",
        "group:60:--x",
        "group:999:-w-",
        "default:group::r-x",
        "default:group:60:--x",
        "default:group:999:-w-",
    ]

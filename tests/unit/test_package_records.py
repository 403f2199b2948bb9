"""Records of packages that no source offers: they come back as written, and what is malformed is refused."""

import os
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tklb.host.apt.rebuilt_packages import RestoredFiles, build_package
from tklb.host.files.staged_content import StagedContents
from tklb.model.files import FileEntry
from tklb.model.packages import LocalPackage, ShippedPath
from tklb.snapshot.package_records import format_records, read_records

CONTROL = (
    b"Package: odd\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: odd\n more\n .\n end\n"
)
RECORD = LocalPackage(
    label="odd",
    architecture="all",
    control=CONTROL,
    conffiles=((b"/etc/odd .conf", "0" * 32), (b"/etc/new", "")),
    members=(("md5sums", b""), ("postinst", b"#!/bin/sh\n")),
    paths=(
        ShippedPath(b"/etc", b"/etc", "dir"),
        ShippedPath(b"/etc/odd .conf", b"/etc/odd .conf", "file"),
        ShippedPath(b"/lib/\xff", b"/usr/lib/\xff", "gone"),
    ),
)


def write(folder: Path, package: LocalPackage = RECORD, **instead: bytes) -> Path:
    for name, text in format_records([package]):
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(instead.get(place.name, text))
    return folder


def test_record_comes_back_as_written(tmp_path: Path) -> None:
    assert read_records(write(tmp_path)) == (RECORD,)
    assert read_records(tmp_path / "of-an-older-version") == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("control", CONTROL.replace(b"odd", b"even", 1)),
        ("control", CONTROL.replace(b"Package: odd", b"Package: ../odd")),
        ("control", CONTROL + b"Package: odd\n"),
        ("control", CONTROL.replace(b"all", b"all;x")),
        ("control", CONTROL + b"no field\n"),
        ("control", CONTROL + b"\nPackage: second\n"),
        ("list", b"file /etc/../etc/shadow /etc/shadow\n"),
        ("list", b"file etc/x /etc/x\n"),
        ("list", b"char /dev/x /dev/x\n"),
        ("list", b"file /etc/x\n"),
        ("list", b"file /etc/x\\012y /etc/x\n"),
        ("conffiles", b"xyz /etc/x\n"),
        ("conffiles", b"- /etc/./x\n"),
    ],
)
def test_malformed_record_is_refused(tmp_path: Path, name: str, text: bytes) -> None:
    with pytest.raises(ValueError, match=r"malformed|unpack|values"):
        read_records(write(tmp_path, **{name: text}))


@pytest.mark.parametrize("name", ["control", "list", "conffiles", "../x", "Post", "a.b"])
def test_member_of_another_name_is_refused(tmp_path: Path, name: str) -> None:
    place = write(tmp_path) / "local/odd/info" / name.replace("/", "%")
    place.write_bytes(b"")
    with pytest.raises(ValueError, match="malformed"):
        read_records(tmp_path)


@pytest.mark.parametrize("name", ["odd/control", "odd/info/postinst", "other"])
def test_link_is_refused(tmp_path: Path, name: str) -> None:
    place = write(tmp_path) / "local" / name
    place.unlink(missing_ok=True)
    place.symlink_to(tmp_path / "local/odd")
    with pytest.raises(ValueError, match="malformed"):
        read_records(tmp_path)


def test_label_that_is_no_package_name_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / "local/odd").rename(tmp_path / "local/-odd")
    with pytest.raises(ValueError, match="malformed"):
        read_records(tmp_path)


def test_package_is_built_from_its_record_and_its_files(tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    (stage / "etc").mkdir(parents=True)
    (stage / "etc/odd .conf").write_bytes(b"the owner's\n")
    os.link(stage / "etc/odd .conf", stage / "etc/other")
    entry = FileEntry(b"/etc/odd .conf", "file", 0o4750, uname=b"anna", gname=b"root", mtime_ns=10**18)
    archive = tmp_path / "odd.deb"
    with closing(StagedContents([os.fsencode(stage)])) as contents:
        build_package(RECORD, RestoredFiles({entry.path: entry}.get, contents), archive)
    fields = subprocess.run(["dpkg-deb", "-f", archive, "Rebuilt-By"], check=True, capture_output=True).stdout
    assert fields == b"tklb\n"
    listed = subprocess.run(["dpkg-deb", "-c", archive], check=True, capture_output=True, text=True).stdout
    assert [line.split(None, 5)[:2] for line in listed.splitlines()] == [
        ["drwxr-xr-x", "root/root"], ["drwxr-xr-x", "root/root"],
        ["-rwxr-x---", "anna/root"], ["-rw-r--r--", "root/root"],
    ]  # fmt: skip
    subprocess.run(["dpkg-deb", "-x", archive, tmp_path / "out"], check=True)
    assert (tmp_path / "out/etc/odd .conf").read_bytes().startswith(b"# The version")  # it is edited
    assert (tmp_path / "out/lib" / os.fsdecode(b"\xff")).read_bytes() == b""

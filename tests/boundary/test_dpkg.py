"""What tklb reads of dpkg's database, against a real dpkg working on a root of its own."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.boundary import repository
from tklb.host.dpkg import (
    find_owner,
    list_base_packages,
    list_installed,
    list_shipped_by,
    list_unfinished,
    listed_files,
    package_files,
)
from tklb.model.files import FileEntry
from tklb.model.packages import Package
from tklb.profile.derive import derive_install_state

HOST = b"/"
OVERRIDES = "dpkg-statoverride --update --add root mail 02640 /etc/secret\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "root"
    for folder in ("var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/apt", "usr/bin", "etc"):
        (place / folder).mkdir(parents=True)
    (place / "bin").symlink_to("usr/bin")
    for name in ("status", "available"):
        (place / "var/lib/dpkg" / name).write_text("")
    return place


def dpkg(root: Path, *words: str | Path) -> None:
    subprocess.run(
        ["dpkg", f"--root={root}", "--force-not-root", "--force-confold", *words], check=True, capture_output=True
    )


def put(root: Path, name: str, version: str = "1", **more: object) -> None:
    folder = root.parent / "debs"
    folder.mkdir(exist_ok=True)
    dpkg(root, "-i", repository.deb(folder, name, version, **more))  # type: ignore[arg-type]


def files(root: Path, *below: bytes) -> dict[bytes, FileEntry]:
    return {entry.path: entry for entry in package_files(os.fsencode(root), below=below or (b"/",))}


def derived(root: Path) -> dict[bytes, FileEntry]:
    found = derive_install_state(os.fsencode(root), None, (b"/etc",), lambda _path: True)
    return {entry.path: entry for entry in found}


def names(root: Path) -> list[str]:
    return [package.name for package in list_installed(os.fsencode(root))]


def test_a_package_of_which_only_configuration_is_left_is_not_installed(root: Path) -> None:
    put(root, "conf", files={"/etc/conf": "a"}, conffiles=("/etc/conf",))
    put(root, "stays")
    assert names(root) == ["conf", "stays"]
    dpkg(root, "--remove", "conf")
    assert (root / "etc/conf").exists()
    assert names(root) == ["stays"]
    assert b"/etc/conf" not in files(root)


def test_held_and_automatic_packages_are_told(root: Path) -> None:
    put(root, "held")
    put(root, "auto")
    subprocess.run(["dpkg", f"--root={root}", "--set-selections"], input=b"held hold\n", check=True)
    (root / "var/lib/apt/extended_states").write_text(
        "Package: auto\nArchitecture: amd64\nAuto-Installed: 1\n\n"
        "Package: held\nArchitecture: amd64\nAuto-Installed: 0\n"
    )
    assert list_installed(os.fsencode(root)) == (
        Package("auto", "1", "all", auto=True),
        Package("held", "1", "all", held=True),
    )


def test_conffiles_and_plain_files_have_their_digests(root: Path) -> None:
    put(root, "both", files={"/etc/both/conf": "a", "/usr/bin/both": "b"}, conffiles=("/etc/both/conf",))
    found = files(root)
    assert found[b"/etc/both/conf"].md5 == "0cc175b9c0f1b6a831c399e269772661"
    assert found[b"/usr/bin/both"].md5 == "92eb5ffee6ae2fec3ad71c777531578f"
    assert [entry.kind for path, entry in sorted(found.items())] == ["dir", "dir", "file", "dir", "dir", "file"]
    assert list(found) == sorted(found)


def test_an_obsolete_conffile_counts_while_it_is_there(root: Path) -> None:
    put(root, "p", "1", files={"/etc/old": "a", "/etc/new": "b"}, conffiles=("/etc/old", "/etc/new"))
    put(root, "p", "2", files={"/etc/new": "b"}, conffiles=("/etc/new",))
    assert b"obsolete" in (root / "var/lib/dpkg/status").read_bytes()
    assert files(root)[b"/etc/old"].md5
    (root / "etc/old").unlink()
    assert b"/etc/old" not in files(root)


def test_a_diverted_file_is_where_it_was_diverted_to(root: Path) -> None:
    put(root, "p", files={"/usr/bin/tool": "a"})
    command = [
        "dpkg-divert",
        f"--root={root}",
        "--package",
        "other",
        "--rename",
        "--add",
        "--divert",
        "/usr/bin/tool.p",
    ]
    subprocess.run([*command, "/usr/bin/tool"], check=True, capture_output=True)
    put(root, "other", files={"/usr/bin/tool": "b"})
    found = files(root)
    assert found[b"/usr/bin/tool.p"].md5 == "0cc175b9c0f1b6a831c399e269772661"
    assert found[b"/usr/bin/tool"].md5 == "92eb5ffee6ae2fec3ad71c777531578f"
    assert find_owner(os.fsencode(root), b"/usr/bin/tool.p") == "p"
    assert find_owner(os.fsencode(root), b"/usr/bin/tool") == "other"


def test_a_file_shipped_below_bin_lies_below_usr(root: Path) -> None:
    put(root, "p", files={"/bin/tool": "a"})
    found = files(root, b"/usr")
    assert found[b"/usr/bin/tool"].md5
    assert find_owner(os.fsencode(root), b"/usr/bin/tool") == "p"
    assert find_owner(os.fsencode(root), b"/bin/tool") is None
    assert list_shipped_by(os.fsencode(root), (b"/usr/bin/tool",)) == {b"/usr/bin/tool": ("p",)}


def test_overrides_of_packages_rule_mode_and_owner(root: Path) -> None:
    put(root, "p", files={"/etc/secret": "a"})
    (root / "var/lib/dpkg/info/p.postinst").write_text(OVERRIDES)
    (root / "var/lib/dpkg/statoverride").write_text("root mail 2640 /etc/secret\n")
    entry = files(root)[b"/etc/secret"]
    assert (entry.mode, entry.uname, entry.gname) == (0o2640, b"root", b"mail")


@pytest.mark.parametrize(
    "line", ["root adm 2640 /etc/secret", "root mail 640 /etc/secret", "root mail 2640 /etc/secrets"]
)
def test_overrides_of_the_owner_are_no_install_state(root: Path, line: str) -> None:
    put(root, "p", files={"/etc/secret": "a", "/etc/secrets": "b"})
    (root / "var/lib/dpkg/info/p.postinst").write_text(OVERRIDES)
    (root / "var/lib/dpkg/statoverride").write_text(f"{line}\n")
    assert {entry.mode for entry in files(root).values()} == {None}


def test_mode_of_an_untouched_file_is_that_of_its_package(root: Path) -> None:
    put(root, "p", files={"/etc/odd": "a", "/etc/plain": "b", "/etc/program": "#!/bin/sh\n"})
    for name in ("odd", "plain", "program"):
        os.utime(root / "etc" / name, (0, 0))
    lists = root / "var/lib/dpkg/info/p.list"
    (root / "etc/odd").chmod(0o640)
    lists.write_bytes(lists.read_bytes())  # as if the package had brought the mode
    time.sleep(0.05)
    (root / "etc/plain").chmod(0o755)
    (root / "etc/program").chmod(0o644)
    found = derived(root)
    assert {path: found[path].mode for path in (b"/etc/odd", b"/etc/plain", b"/etc/program")} == {
        b"/etc/odd": 0o640, b"/etc/plain": 0o644, b"/etc/program": 0o755,
    }  # fmt: skip


def test_mode_on_a_copied_machine_proves_nothing(root: Path) -> None:
    put(root, "p", files={"/etc/odd": "a"})
    os.utime(root / "etc/odd", (0, 0))
    (root / "etc/odd").chmod(0o640)
    lists = root / "var/lib/dpkg/info/p.list"
    lists.write_bytes(lists.read_bytes())
    os.utime(lists, (1_000_000_000, 1_000_000_000))
    assert derived(root)[b"/etc/odd"].mode == 0o644


def test_a_shipped_link_that_is_gone_from_etc_is_missed(root: Path) -> None:
    put(root, "p", files={"/etc/p/a": "a"})
    lists = root / "var/lib/dpkg/info/p.list"
    lists.write_text(lists.read_text() + "/etc/p/link\n/usr/share/p-link\n")
    assert files(root)[b"/etc/p/link"].kind == "link"
    assert b"/usr/share/p-link" not in files(root)


def test_a_file_without_digest_is_not_vouched_for(root: Path) -> None:
    put(root, "p", files={"/etc/known": "a", "/etc/unknown": "b"})
    (root / "var/lib/dpkg/info/p.md5sums").write_text("0cc175b9c0f1b6a831c399e269772661  etc/known\n")
    assert [path for path, entry in files(root).items() if entry.kind == "file"] == [b"/etc/known"]


def test_a_link_younger_than_its_package_is_not_vouched_for(root: Path) -> None:
    put(root, "p")
    listing = root / "var/lib/dpkg/info/p.list"
    listing.write_text(listing.read_text() + "/etc/older\n/etc/younger\n")
    came = listing.stat().st_mtime_ns
    for name, changed in (("older", came), ("younger", came + 1)):
        (root / "etc" / name).symlink_to("x")
        os.utime(root / "etc" / name, ns=(changed, changed), follow_symlinks=False)
    assert [path for path, entry in files(root).items() if entry.kind == "link"] == [b"/etc/older"]


def test_an_interrupted_installation_is_noticed(root: Path) -> None:
    put(root, "fine")
    folder = root.parent / "debs"
    subprocess.run(
        ["dpkg", f"--root={root}", "--unpack", repository.deb(folder, "begun")], check=True, capture_output=True
    )
    assert list_unfinished(os.fsencode(root)) == ("begun",)


def test_files_of_a_package_are_listed_without_its_folders(root: Path) -> None:
    put(root, "p", files={"/etc/p/a": "a", "/opt/p/b": "b"})
    assert listed_files(os.fsencode(root), ["p"]) == (b"/etc/p/a", b"/opt/p/b")


def test_what_every_debian_has_is_found_with_what_it_depends_on(root: Path) -> None:
    put(root, "lib")
    put(root, "mta", fields="Provides: mail-transport-agent\n")
    put(root, "base", fields="Essential: yes\nPre-Depends: lib (>= 1)\nDepends: exim | mail-transport-agent\n")
    put(root, "extra")
    assert [package.name for package in list_base_packages(os.fsencode(root))] == ["base", "lib", "mta"]


def test_an_absent_database_is_an_empty_one(tmp_path: Path) -> None:
    assert list_installed(os.fsencode(tmp_path)) == ()
    assert list(package_files(os.fsencode(tmp_path))) == []
    assert find_owner(os.fsencode(tmp_path), b"/bin/sh") is None


def test_this_machine_is_read_as_dpkg_and_apt_read_it() -> None:
    query = "${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\n"
    said = subprocess.run(["dpkg-query", "-W", "-f", query], capture_output=True, text=True, check=True).stdout
    rows = (line.split("\t") for line in said.splitlines())
    ours = list_installed(HOST)
    assert sorted((p.name, p.version, p.architecture) for p in ours) == sorted(
        tuple(row[1:]) for row in rows if row[0] not in ("not-installed", "config-files", "half-installed")
    )
    automatic = subprocess.run(["apt-mark", "showauto"], capture_output=True, text=True, check=True).stdout.split()
    assert {p.name for p in ours if p.auto} == {name.partition(":")[0] for name in automatic}


def test_fifty_thousand_paths_are_read_in_seconds() -> None:
    started = time.monotonic()
    count = sum(1 for _ in package_files(HOST))
    assert time.monotonic() - started < 1 + count / 10_000

"""The services of a root file system: what its next start starts, with systemd and without, and to whom they belong."""

import os
from pathlib import Path

import pytest

from tklb.host.units import list_enabled, read_service_owners

SYSTEM = "etc/systemd/system"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("usr/lib/systemd/system", SYSTEM, "etc/init.d", "var/lib/dpkg/info"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def link(root: Path, name: str, target: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).symlink_to(target)


def package(root: Path, name: str, *paths: str, source: str = "", status: str = "install ok installed") -> None:
    fields = [f"Package: {name}", *([f"Source: {source} (1.2)"] if source else []), f"Status: {status}", "Version: 1"]
    with (root / "var/lib/dpkg/status").open("a") as stream:
        stream.write("\n".join(fields) + "\n\n")
    (root / f"var/lib/dpkg/info/{name}.list").write_text("".join(f"{path}\n" for path in ("/.", "/etc", *paths)))


def enabled(root: Path, *, systemd: bool) -> set[str]:
    return {name for name in list_enabled(os.fsencode(root), has_systemd=systemd) if name != "systemd-journald"}


def test_links_of_systemd_decide_where_it_is_process_1(root: Path) -> None:
    link(root, f"{SYSTEM}/multi-user.target.wants/both.service", "/usr/lib/systemd/system/both.service")
    link(root, f"{SYSTEM}/timers.target.wants/clean.timer", "/usr/lib/systemd/system/clean.timer")
    link(root, f"{SYSTEM}/app.service.requires/helper.socket", "/x")
    for name in ("both.service", "off.service"):
        (root / "usr/lib/systemd/system" / name).write_text("")
    for name in ("both", "off", "old"):
        (root / "etc/init.d" / name).write_text("")
    link(root, "etc/rc2.d/S01off", "../init.d/off")
    link(root, "etc/rc2.d/S01old", "../init.d/old")
    link(root, "etc/rc2.d/K01both", "../init.d/both")
    assert enabled(root, systemd=True) == {"both", "clean.timer", "helper.socket", "old"}
    assert enabled(root, systemd=False) == {"off", "old", "clean.timer", "helper.socket"}


def test_masked_service_is_off_everywhere(root: Path) -> None:
    link(root, f"{SYSTEM}/multi-user.target.wants/app.service", "/x")
    link(root, f"{SYSTEM}/app.service", "/dev/null")
    assert enabled(root, systemd=True) == enabled(root, systemd=False) == set()


def test_root_without_anything_has_no_services(tmp_path: Path) -> None:
    assert enabled(tmp_path, systemd=False) == set()
    assert read_service_owners(os.fsencode(tmp_path))[0] == {}


def test_packages_of_one_source_share_services_and_configuration(root: Path) -> None:
    package(root, "samba-common", "/etc/samba", "/etc/samba/gdbcommands", source="samba")
    package(root, "samba", "/lib/systemd/system/smbd.service", "/etc/init.d/smbd", source="samba")
    package(root, "ghost", "/etc/samba/x", "/etc/init.d/ghost", status="deinstall ok config-files")
    of_packages, of_files = read_service_owners(os.fsencode(root))
    assert of_packages == {"samba": ("smbd",)}
    assert of_files[b"/etc/samba"] == of_files[b"/etc/samba/gdbcommands"] == ("smbd",)
    assert b"/etc/samba/x" not in of_files


def test_shared_folders_belong_to_no_service_but_their_settings_do(root: Path) -> None:
    package(
        root, "web", "/etc/logrotate.d", "/etc/logrotate.d/web", "/etc/default", "/etc/default/web", "/etc/init.d/web"
    )
    _, of_files = read_service_owners(os.fsencode(root))
    assert of_files[b"/etc/default/web"] == ("web",)
    assert not {b"/etc", b"/etc/logrotate.d", b"/etc/logrotate.d/web", b"/etc/default"} & of_files.keys()


def test_folder_of_many_packages_says_nothing(root: Path) -> None:
    for number in range(4):
        package(root, f"p{number}", "/etc/plugins", f"/etc/plugins/{number}", f"/etc/init.d/p{number}")
    _, of_files = read_service_owners(os.fsencode(root))
    assert b"/etc/plugins" not in of_files
    assert of_files[b"/etc/plugins/2"] == ("p2",)


def test_template_and_base_system_are_no_services(root: Path) -> None:
    package(root, "vpn", "/usr/lib/systemd/system/vpn@.service", "/usr/lib/systemd/system/vpn.target")
    package(root, "systemd", "/usr/lib/systemd/system/systemd-reboot.service", "/etc/systemd/system.conf")
    of_packages, of_files = read_service_owners(os.fsencode(root))
    assert of_packages == {}
    assert b"/etc/systemd/system.conf" not in of_files
    assert of_files[b"/etc/systemd/journald.conf"] == ("systemd-journald",)

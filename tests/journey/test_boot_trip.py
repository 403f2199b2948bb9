"""Settings of how a machine starts, on machines that have a kernel and GRUB: Debian's own tools really run.

The root of a test machine is on no disk, so grub-probe fails at first; then a stand-in answers. Where TKLB_SOAK is set.
Takes the lab's machines with a kernel, which apt downloads once; touches clones and a folder of its own.
"""

import json
from pathlib import Path

import pytest

from tests.lab.appliance import Appliance, clone, prepare
from tests.lab.box import Box
from tests.lab.roots import layer
from tests.lab.soak import SOAK

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.skipif(not SOAK, reason="a kernel: 100 MB and 40 s of CPU"),
]

SHARE = "/mnt/share"
RESTORE = ("tklb", "restore", "--json", "--yes", "--target", f"file://{SHARE}/target", "--key", f"{SHARE}/key")
INSTALL = """
apt-get -q update
echo 'grub-pc grub-pc/install_devices_empty boolean true' | debconf-set-selections
apt-get -qy --no-install-recommends install initramfs-tools zstd linux-image-cloud-amd64 grub-pc
apt-get clean
mkdir -p /boot/grub
echo '# no menu yet' >/boot/grub/grub.cfg
"""
PROBE = """#!/bin/sh
case "$*" in
*fs_uuid*) echo 01234567-89ab-cdef-0123-456789abcdef ;;
*=fs*) echo ext2 ;;
*=device*) echo /dev/sda1 ;;
*partmap*) echo gpt ;;
*abstraction*) ;;
*) echo hd0 ;;
esac
"""


def machine(hostname: str, share: Path) -> Appliance:
    def install(box: Box) -> None:
        box.run(["sh", "-ec", INSTALL], timeout=900)

    kernel = layer(f"kernel {INSTALL}", prepare("core", hostname), install, hostname)
    return clone("core", hostname=hostname, tklb=True, on="disk", binds={share: SHARE}, layers=[kernel])


def test_settings_of_the_initramfs_and_of_grub_take_effect_and_a_failure_is_named_and_repeated(tmp_path: Path) -> None:
    with machine("a", tmp_path) as a:
        (a.root / "etc/modprobe.d/own.conf").write_text("options nbd max_part=7\n")
        a.run(["sh", "-c", "echo nbd >>/etc/initramfs-tools/modules"])
        a.run(["sed", "-i", "s/^GRUB_TIMEOUT=.*/GRUB_TIMEOUT=7/", "/etc/default/grub"])
        a.run(["tklb", "init", "--target", f"file://{SHARE}/target"])
        a.run(["tklb", "backup"])
        a.run(["tklb", "key", "escrow", "--no-passphrase", f"{SHARE}/key"])
    with machine("b", tmp_path) as b:
        before = b.run(["sh", "-c", "lsinitramfs /boot/initrd.img-*"]).stdout
        first = b.run(RESTORE, check=False, timeout=600)
        (failed,) = json.loads(first.stdout)["skipped"]
        assert (first.returncode, failed["item"]) == (3, "command:update-grub")
        assert "grub-probe" in failed["reason"]
        listed = b.run(["sh", "-c", "lsinitramfs /boot/initrd.img-*"]).stdout
        assert "etc/modprobe.d/own.conf" in listed
        assert "etc/modprobe.d/own.conf" not in before
        (b.root / "usr/sbin/grub-probe").write_text(PROBE)
        again = json.loads(b.run(RESTORE, timeout=600).stdout)
        assert again["skipped"] == []
        menu = (b.root / "boot/grub/grub.cfg").read_text()
        assert "set timeout=7" in menu
        assert "/vmlinuz-" in menu

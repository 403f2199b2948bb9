#!/bin/sh
# Much from backports, with pins and holds; a loose package, one at an older version, one removed and not purged.
set -eu
mirror=$(sed -n 's/^deb \([^ ]*\) bookworm main.*/\1/p' /etc/apt/sources.list | head -n 1)
printf 'Types: deb\nURIs: %s\nSuites: bookworm-backports\nComponents: main contrib\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$mirror" \
    >/etc/apt/sources.list.d/backports.sources
printf 'Package: *\nPin: release n=bookworm-backports\nPin-Priority: 200\n' >/etc/apt/preferences.d/backports
printf 'APT::Install-Recommends "false";\nAPT::Default-Release "bookworm";\n' >/etc/apt/apt.conf.d/90own
apt-get -q update
apt-get -qy install tree jq figlet unattended-upgrades apt-listchanges lsof
apt-get -qy install -t bookworm-backports btrfs-progs nftables tmux cron
apt-mark hold btrfs-progs figlet
apt-mark auto lsof
apt-get -qy remove figlet --allow-change-held-packages
apt-mark hold jq
printf 'unattended-upgrades unattended-upgrades/enable_auto_updates boolean false\n' | debconf-set-selections
DEBIAN_FRONTEND=noninteractive dpkg-reconfigure unattended-upgrades
mkdir -p /root/own/DEBIAN /root/own/usr/bin /root/own/etc
cat >/root/own/DEBIAN/control <<'TEXT'
Package: own-tools
Version: 1.0
Architecture: all
Maintainer: Owner <owner@example.org>
Depends: bc, jq
Description: tools of our own
TEXT
printf '/etc/own-tools.conf\n' >/root/own/DEBIAN/conffiles
printf 'a = 1\n' >/root/own/etc/own-tools.conf
printf '#!/bin/sh\necho own\n' >/root/own/usr/bin/own-tool
chmod 755 /root/own/usr/bin/own-tool
dpkg-deb --root-owner-group --build /root/own /root/own-tools.deb
apt-get -qy install /root/own-tools.deb
printf 'a = 2\n' >/etc/own-tools.conf
rm -r /root/own
printf 'Unattended-Upgrade::Mail "root";\n' >/etc/apt/apt.conf.d/52own-upgrades

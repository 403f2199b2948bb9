#!/bin/sh
# A VPN gateway: WireGuard and OpenVPN with their keys, saved packet filter rules, other locale and time zone.
set -eu
debconf-set-selections <<'TEXT'
iptables-persistent iptables-persistent/autosave_v4 boolean false
iptables-persistent iptables-persistent/autosave_v6 boolean false
TEXT
apt-get -q update
apt-get -qy --no-install-recommends install wireguard-tools openvpn easy-rsa iptables-persistent dnsmasq locales e2fsprogs at
umask 077
mkdir -p /etc/wireguard
wg genkey >/etc/wireguard/private.key
cat >/etc/wireguard/wg0.conf <<TEXT
[Interface]
Address = 10.8.0.1/24
ListenPort = 51820
PrivateKey = $(cat /etc/wireguard/private.key)
TEXT
mkdir -p /etc/openvpn/server /etc/openvpn/ccd
openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=VPN -keyout /etc/openvpn/server/ca.key -out /etc/openvpn/server/ca.crt 2>/dev/null
openvpn --genkey secret /etc/openvpn/server/ta.key
umask 022
make-cadir /etc/openvpn/easy-rsa
printf 'port 1194\nproto udp\ndev tun\nca ca.crt\ntls-crypt ta.key\n' >/etc/openvpn/server/office.conf
printf 'ifconfig-push 10.9.0.10 255.255.255.0\n' >/etc/openvpn/ccd/alice
systemctl enable wg-quick@wg0.service openvpn-server@office.service
mkdir -p /etc/iptables
printf '*filter\n:INPUT DROP [0:0]\n-A INPUT -p udp --dport 51820 -j ACCEPT\nCOMMIT\n' >/etc/iptables/rules.v4
printf 'net.ipv4.ip_forward = 1\n' >/etc/sysctl.d/vpn.conf
printf 'interface=wg0\ndhcp-range=10.8.0.50,10.8.0.150,12h\n' >/etc/dnsmasq.d/vpn.conf
printf '1 aa:bb:cc:dd:ee:ff 10.8.0.51 phone *\n' >/var/lib/misc/dnsmasq.leases
sed -i 's/^# *de_DE.UTF-8 UTF-8/de_DE.UTF-8 UTF-8/' /etc/locale.gen
locale-gen
update-locale LANG=de_DE.UTF-8
ln -sf /usr/share/zoneinfo/Europe/Berlin /etc/localtime
printf 'Europe/Berlin\n' >/etc/timezone
printf '%%netadmin ALL=(root) NOPASSWD: /usr/bin/wg\n' >/etc/sudoers.d/netadmin
chmod 440 /etc/sudoers.d/netadmin
groupadd netadmin
useradd --create-home --groups netadmin olaf
systemctl disable rsyslog.service
printf 'wg-quick down wg0\n' | runuser -u olaf -- at 05:00 2031-01-01

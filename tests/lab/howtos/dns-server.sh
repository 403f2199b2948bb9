#!/bin/sh
# A name server: bind9 with zones, a dynamic zone and its journal, secondary zones, DNSSEC keys; chrony for the clock.
set -eu
apt-get -q update
apt-get -qy --no-install-recommends install bind9 bind9-utils bind9-dnsutils chrony cron
mkdir -p /etc/bind/zones /etc/bind/keys
cat >/etc/bind/zones/db.example.org <<'TEXT'
$TTL 3600
@   IN SOA ns1.example.org. admin.example.org. ( 2025010101 7200 900 1209600 3600 )
    IN NS  ns1.example.org.
ns1 IN A   192.0.2.1
www IN A   192.0.2.2
TEXT
sed 's/2025010101/7/; s/example.org/dyn.example.org/g' /etc/bind/zones/db.example.org >/var/lib/bind/db.dyn.example.org
chown bind:bind /var/lib/bind/db.dyn.example.org
printf 'secondary zone\n' >/var/cache/bind/db.partner.example.net
chown bind:bind /var/cache/bind/db.partner.example.net
cat >>/etc/bind/named.conf.local <<'TEXT'
zone "example.org" { type primary; file "/etc/bind/zones/db.example.org"; };
zone "dyn.example.org" { type primary; file "/var/lib/bind/db.dyn.example.org"; allow-update { key ddns; }; };
include "/etc/bind/keys/ddns.key";
TEXT
tsig-keygen ddns >/etc/bind/keys/ddns.key
(cd /etc/bind/keys && dnssec-keygen -a ECDSAP256SHA256 -K . example.org >/dev/null 2>&1)
chown -R root:bind /etc/bind/keys
chmod 750 /etc/bind/keys
chmod 640 /etc/bind/keys/*
sed -i 's/^OPTIONS=.*/OPTIONS="-u bind -4"/' /etc/default/named
install -d -o bind -g bind -m 755 /var/log/named
printf '/var/log/named/*.log {\n  weekly\n  rotate 9\n  missingok\n}\n' >/etc/logrotate.d/named-own
printf 'allow 192.0.2.0/24\nserver ntp.example.org iburst\n' >/etc/chrony/conf.d/own.conf
mkdir -p /etc/systemd/system/named.service.d
printf '[Service]\nRestart=always\n' >/etc/systemd/system/named.service.d/override.conf
useradd --create-home --groups bind zonemaster
printf 'allow\n' >/var/lib/bind/.own
# A host that registers itself: its address is in the journal of the zone alone.
install -d -o bind -g bind /run/named
named -u bind -4
until dig +short @127.0.0.1 www.example.org | grep -q 192.0.2.2; do sleep 0.2; done
printf 'server 127.0.0.1\nupdate add phone.dyn.example.org 600 A 192.0.2.77\nsend\n' | nsupdate -k /etc/bind/keys/ddns.key
kill "$(cat /run/named/named.pid)"
while pgrep -x named >/dev/null; do sleep 0.2; done
apt-get -qy purge nano

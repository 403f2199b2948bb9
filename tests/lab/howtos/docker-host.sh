#!/bin/sh
# A Docker host: Debian's package, Compose files below /opt, named volumes, a unit template that no package owns.
set -eu
apt-get -q update
apt-get -qy --no-install-recommends install docker.io nftables cron
useradd --create-home --shell /bin/bash --groups docker deploy
mkdir -p /etc/docker
printf '{"log-driver": "json-file", "log-opts": {"max-size": "10m"}, "live-restore": true}\n' >/etc/docker/daemon.json
mkdir -p /opt/stacks/shop
cat >/opt/stacks/shop/compose.yaml <<'TEXT'
services:
  db:
    image: postgres:16
    env_file: .env
    volumes: ["db:/var/lib/postgresql/data", "/srv/shop/uploads:/uploads"]
volumes:
  db:
TEXT
printf 'POSTGRES_PASSWORD=secret\n' >/opt/stacks/shop/.env
chmod 600 /opt/stacks/shop/.env
chown -R deploy: /opt/stacks
install -d -o 999 -g 999 -m 700 /var/lib/docker/volumes/shop_db/_data
install -d -m 701 /var/lib/docker/volumes
printf '16\n' >/var/lib/docker/volumes/shop_db/_data/PG_VERSION
chown 999:999 /var/lib/docker/volumes/shop_db/_data/PG_VERSION
install -d -m 710 /var/lib/docker/overlay2/0a1b/diff/usr/bin
printf 'layer\n' >/var/lib/docker/overlay2/0a1b/diff/usr/bin/postgres
install -d -m 755 /srv/shop/uploads
printf 'picture\n' >/srv/shop/uploads/1.jpg
mkdir -p /usr/local/lib/docker/cli-plugins
printf '#!/bin/sh\nexit 0\n' >/usr/local/lib/docker/cli-plugins/docker-compose
chmod 755 /usr/local/lib/docker/cli-plugins/docker-compose
cat >/usr/lib/systemd/system/compose@.service <<'TEXT'
[Unit]
Requires=docker.service
[Service]
Type=oneshot
RemainAfterExit=yes
WorkingDirectory=/opt/stacks/%i
ExecStart=/usr/bin/docker compose up -d
[Install]
WantedBy=multi-user.target
TEXT
systemctl enable compose@shop.service
cat >/etc/nftables.conf <<'TEXT'
#!/usr/sbin/nft -f
flush ruleset
table inet filter {
    chain input {
        type filter hook input priority 0; policy drop;
        tcp dport { 22, 443 } accept
    }
}
TEXT
systemctl enable nftables.service
mkdir -p /var/lib/systemd/linger
touch /var/lib/systemd/linger/deploy
printf 'net.ipv4.ip_forward = 1\n' >/etc/sysctl.d/90-docker.conf
printf '4 4 * * 0 docker system prune -f\n' | crontab -u deploy -
mkdir -p /root/.docker
printf '{"auths": {"registry.example.org": {"auth": "eA=="}}}\n' >/root/.docker/config.json
chmod 600 /root/.docker/config.json

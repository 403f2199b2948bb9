#!/bin/sh
# Monitoring: Prometheus and an exporter from Debian, another exporter from a tarball, rules, a masked unit.
set -eu
apt-get -q update
apt-get -qy --no-install-recommends install prometheus prometheus-blackbox-exporter prometheus-node-exporter cron
useradd --system --no-create-home --shell /usr/sbin/nologin node_exporter
install -d -o node_exporter -g node_exporter /var/lib/node_exporter/textfile
printf '#!/bin/sh\nexec sleep 1000\n' >/usr/local/bin/node_exporter
chmod 755 /usr/local/bin/node_exporter
cat >/etc/systemd/system/node_exporter.service <<'TEXT'
[Service]
User=node_exporter
ExecStart=/usr/local/bin/node_exporter --collector.textfile.directory=/var/lib/node_exporter/textfile
[Install]
WantedBy=multi-user.target
TEXT
systemctl enable node_exporter.service
systemctl disable prometheus-node-exporter.service
systemctl mask prometheus-node-exporter.service
mkdir -p /etc/prometheus/rules
cat >/etc/prometheus/rules/up.yml <<'TEXT'
groups:
  - name: up
    rules:
      - alert: Down
        expr: up == 0
        for: 5m
TEXT
cat >/etc/prometheus/prometheus.yml <<'TEXT'
global: {scrape_interval: 30s}
rule_files: ["/etc/prometheus/rules/*.yml"]
scrape_configs:
  - job_name: node
    static_configs: [{targets: ["localhost:9100"]}]
TEXT
sed -i 's/^ARGS=.*/ARGS="--storage.tsdb.retention.time=400d"/' /etc/default/prometheus
# Samples of its own, from before: in the write-ahead log of its database.
printf 'global: {scrape_interval: 1s}\nscrape_configs: [{job_name: own, static_configs: [{targets: ["localhost:9090"]}]}]\n' \
    >/root/once.yml
prometheus --config.file=/root/once.yml --storage.tsdb.path=/var/lib/prometheus/metrics2 \
    --web.listen-address=127.0.0.1:9090 >/dev/null 2>&1 &
until promtool query instant http://127.0.0.1:9090 up | grep -q 'job="own"'; do sleep 0.5; done
kill $!
wait $! || true
rm /root/once.yml
chown -R prometheus:prometheus /var/lib/prometheus
install -d -m 750 -g prometheus /etc/prometheus/secrets
printf 'token\n' >/etc/prometheus/secrets/token
chown root:prometheus /etc/prometheus/secrets/token
chmod 640 /etc/prometheus/secrets/token
printf '* * * * * root df --output=avail / | tail -n 1 >/var/lib/node_exporter/textfile/df.prom\n' >/etc/cron.d/df
ln -sf /usr/share/zoneinfo/Etc/UTC /etc/localtime

#!/bin/sh
# Like Nextcloud's manual: nginx, PHP, Redis as cache and store of locks, an SQLite database, data outside of the web root.
set -eu
apt-get -q update
apt-get -qy --no-install-recommends install nginx-light php-fpm php-gd php-curl php-xml php-mbstring php-zip php-redis \
    php-sqlite3 redis-server sqlite3 cron
version=$(php -r 'echo PHP_MAJOR_VERSION, ".", PHP_MINOR_VERSION;')

sed -i 's/^# *unixsocket .*/unixsocket \/run\/redis\/redis-server.sock/; s/^# *unixsocketperm .*/unixsocketperm 770/' /etc/redis/redis.conf
printf 'requirepass s3cret\nmaxmemory 64mb\n' >>/etc/redis/redis.conf
usermod --append --groups redis www-data
install -d -o redis -g redis /run/redis
runuser -u redis -- redis-server /etc/redis/redis.conf --daemonize yes --supervised no --dir /var/lib/redis
until redis-cli --no-auth-warning -a s3cret ping 2>/dev/null | grep -q PONG; do sleep 0.2; done
redis-cli --no-auth-warning -a s3cret set session:alice logged-in
redis-cli --no-auth-warning -a s3cret lpush jobs one two three
redis-cli --no-auth-warning -a s3cret shutdown save
while pgrep -x redis-server >/dev/null; do sleep 0.2; done

mkdir -p /var/www/nextcloud/config /var/www/nextcloud/apps/calendar /var/www/nextcloud/core
cat >/var/www/nextcloud/index.php <<'TEXT'
<?php
$db = new SQLite3('/var/lib/nextcloud/data/owncloud.db', SQLITE3_OPEN_READONLY);
echo 'users ', $db->querySingle('SELECT group_concat(uid) FROM oc_users'), "\n";
echo 'memory ', ini_get('memory_limit'), "\n", 'ctype ', var_export(extension_loaded('ctype'), true), "\n";
TEXT
printf '<?php // calendar\n' >/var/www/nextcloud/apps/calendar/info.php
cat >/var/www/nextcloud/config/config.php <<'TEXT'
<?php
$CONFIG = ['datadirectory' => '/var/lib/nextcloud/data', 'dbtype' => 'sqlite3', 'secret' => 'xyz',
           'memcache.locking' => '\OC\Memcache\Redis', 'redis' => ['host' => '/run/redis/redis-server.sock']];
TEXT
mkdir -p /var/lib/nextcloud/data/alice/files/Photos
head -c 200000 /dev/urandom >/var/lib/nextcloud/data/alice/files/Photos/1.jpg
touch /var/lib/nextcloud/data/.ocdata
sqlite3 /var/lib/nextcloud/data/owncloud.db 'CREATE TABLE oc_users(uid TEXT); INSERT INTO oc_users VALUES("alice");'
chown -R www-data:www-data /var/www/nextcloud /var/lib/nextcloud
chmod 750 /var/lib/nextcloud/data
chmod 640 /var/www/nextcloud/config/config.php

cat >/etc/nginx/sites-available/nextcloud <<TEXT
server {
    listen 80;
    server_name cloud.example.org;
    root /var/www/nextcloud;
    location ~ \\.php\$ { include snippets/fastcgi-php.conf; fastcgi_pass unix:/run/php/php$version-fpm.sock; }
}
TEXT
ln -s ../sites-available/nextcloud /etc/nginx/sites-enabled/nextcloud
rm /etc/nginx/sites-enabled/default
printf 'memory_limit = 512M\nopcache.interned_strings_buffer = 16\n' >"/etc/php/$version/mods-available/nextcloud.ini"
phpenmod nextcloud
phpdismod ctype
sed -i 's/^pm.max_children = .*/pm.max_children = 20/; s/^;env\[PATH\]/env[PATH]/' "/etc/php/$version/fpm/pool.d/www.conf"
printf 'vm.overcommit_memory = 1\n' >/etc/sysctl.d/60-redis.conf
printf '*/5 * * * * php -f /var/www/nextcloud/cron.php\n' | crontab -u www-data -
cat >/etc/systemd/system/nextcloud-preview.timer <<'TEXT'
[Timer]
OnCalendar=hourly
[Install]
WantedBy=timers.target
TEXT
printf '[Service]\nUser=www-data\nExecStart=/usr/bin/php -f /var/www/nextcloud/occ preview\n' >/etc/systemd/system/nextcloud-preview.service
systemctl enable nextcloud-preview.timer
printf '/var/lib/nextcloud/data/nextcloud.log {\n  weekly\n  missingok\n}\n' >/etc/logrotate.d/nextcloud

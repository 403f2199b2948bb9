#!/bin/sh
# A mail server: postfix and dovecot with virtual mailboxes, DKIM, fail2ban, a certificate of certbot's.
set -eu
debconf-set-selections <<'TEXT'
postfix postfix/main_mailer_type select Internet Site
postfix postfix/mailname string mail.example.org
TEXT
apt-get -q update
apt-get -qy --no-install-recommends install \
    postfix postfix-pcre dovecot-imapd dovecot-lmtpd dovecot-sieve opendkim opendkim-tools fail2ban python3-systemd cron

groupadd --gid 5000 vmail
useradd --gid vmail --uid 5000 --home-dir /var/vmail --create-home --shell /usr/sbin/nologin vmail
printf 'example.org OK\n' >/etc/postfix/vdomains
printf 'alice@example.org example.org/alice/\nbob@example.org example.org/bob/\n' >/etc/postfix/vmailbox
printf 'postmaster@example.org alice@example.org\nabuse@example.org alice@example.org\n' >/etc/postfix/virtual
printf '[smtp.example.net]:587 relay:secret\n' >/etc/postfix/sasl_passwd
chmod 600 /etc/postfix/sasl_passwd
printf '/^X-Spam: yes/ DISCARD\n' >/etc/postfix/header_checks
for map in vdomains vmailbox virtual sasl_passwd; do postmap "/etc/postfix/$map"; done
postconf -e 'virtual_mailbox_domains = hash:/etc/postfix/vdomains' 'virtual_mailbox_base = /var/vmail' \
    'virtual_mailbox_maps = hash:/etc/postfix/vmailbox' 'virtual_alias_maps = hash:/etc/postfix/virtual' \
    'virtual_uid_maps = static:5000' 'virtual_gid_maps = static:5000' 'header_checks = pcre:/etc/postfix/header_checks' \
    'smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd' 'smtpd_milters = local:opendkim/opendkim.sock' \
    'virtual_transport = lmtp:unix:private/dovecot-lmtp' 'smtpd_tls_cert_file = /etc/letsencrypt/live/mail.example.org/fullchain.pem' \
    'smtpd_tls_key_file = /etc/letsencrypt/live/mail.example.org/privkey.pem'
postconf -M 'submission/inet=submission inet n - y - - smtpd'
printf 'root: alice@example.org\n' >>/etc/aliases
newaliases

install -d -m 700 /etc/letsencrypt/archive/mail.example.org /etc/letsencrypt/live/mail.example.org
openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=mail.example.org 2>/dev/null \
    -keyout /etc/letsencrypt/archive/mail.example.org/privkey1.pem -out /etc/letsencrypt/archive/mail.example.org/fullchain1.pem
for name in privkey fullchain; do
    ln -s "../../archive/mail.example.org/${name}1.pem" "/etc/letsencrypt/live/mail.example.org/$name.pem"
done

cat >/etc/dovecot/local.conf <<'TEXT'
mail_location = maildir:/var/vmail/%d/%n
ssl_cert = </etc/letsencrypt/live/mail.example.org/fullchain.pem
ssl_key = </etc/letsencrypt/live/mail.example.org/privkey.pem
passdb {
  driver = passwd-file
  args = /etc/dovecot/users
}
userdb {
  driver = static
  args = uid=vmail gid=vmail home=/var/vmail/%d/%n
}
TEXT
# shellcheck disable=SC2016  # the dollars are the hash's
printf 'alice@example.org:{PLAIN}s3cret\nbob@example.org:{SHA256-CRYPT}$5$saltsalt$notahash\n' >/etc/dovecot/users
chown root:dovecot /etc/dovecot/users
chmod 640 /etc/dovecot/users
for user in alice bob; do
    for folder in cur new tmp .Sent/cur .Sent/new .Sent/tmp; do
        mkdir -p "/var/vmail/example.org/$user/$folder"
    done
    printf 'From: x\nSubject: hello %s\n\nhello\n' "$user" >"/var/vmail/example.org/$user/cur/1700000000.M1P1.mail:2,S"
done
printf 'require ["fileinto"];\n' >/var/vmail/example.org/alice/.dovecot.sieve
chown -R vmail:vmail /var/vmail
chmod -R u+rwX,go-rwx /var/vmail

install -d -o opendkim -g opendkim -m 750 /etc/opendkim/keys/example.org
opendkim-genkey --directory=/etc/opendkim/keys/example.org --domain=example.org --selector=mail
chown -R opendkim:opendkim /etc/opendkim/keys
printf 'Domain example.org\nSelector mail\nKeyFile /etc/opendkim/keys/example.org/mail.private\n' >>/etc/opendkim.conf
install -d -o opendkim -g postfix -m 750 /var/spool/postfix/opendkim
usermod --append --groups opendkim postfix
printf '[DEFAULT]\nbackend = systemd\n[postfix]\nenabled = true\n' >/etc/fail2ban/jail.d/mail.conf
printf '17 3 * * * /usr/bin/certbot renew -q\n' | crontab -
printf 'To: alice@example.org\nSubject: queued\n\nwait\n' | sendmail alice@example.org

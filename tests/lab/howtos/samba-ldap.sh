#!/bin/sh
# A member server: Samba with its own password database, accounts from LDAP by nslcd, shares with ACLs, a home elsewhere.
set -eu
debconf-set-selections <<'TEXT'
nslcd nslcd/ldap-uris string ldap://ldap.example.org/
nslcd nslcd/ldap-base string dc=example,dc=org
nslcd nslcd/ldap-bindpw password s3cret
libnss-ldapd libnss-ldapd/nsswitch multiselect passwd, group, shadow
krb5-config krb5-config/default_realm string EXAMPLE.ORG
TEXT
apt-get -q update
apt-get -qy --no-install-recommends install samba smbclient nslcd libnss-ldapd libpam-ldapd krb5-user acl at quota

printf 'binddn cn=reader,dc=example,dc=org\n' >>/etc/nslcd.conf
pam-auth-update --package --enable mkhomedir
groupadd staff-share
mkdir -p /data/home
useradd --home-dir /data/home/helen --create-home --shell /bin/bash --groups staff-share helen
printf 'notes\n' >/data/home/helen/notes.txt
chown helen: /data/home/helen/notes.txt
useradd --create-home --groups staff-share ian
cat >>/etc/samba/smb.conf <<'TEXT'
[projects]
   path = /srv/samba/projects
   valid users = @staff-share
   read only = no
   force create mode = 0660
TEXT
sed -i 's/^ *workgroup = .*/   workgroup = EXAMPLE/' /etc/samba/smb.conf
for user in helen ian; do printf 'pass\npass\n' | smbpasswd -s -a "$user"; done
net usersidlist >/dev/null 2>&1 || true
install -d -g staff-share -m 2770 /srv/samba/projects
setfacl -m g:staff-share:rwx,d:g:staff-share:rwx,u:www-data:rx /srv/samba/projects
printf 'plan\n' >/srv/samba/projects/plan.txt
chown ian:staff-share /srv/samba/projects/plan.txt
printf 'keytab\n' >/etc/krb5.keytab
chmod 600 /etc/krb5.keytab
printf '[libdefaults]\n  default_realm = EXAMPLE.ORG\n[realms]\n  EXAMPLE.ORG = {\n    kdc = kdc.example.org\n  }\n' >/etc/krb5.conf
chmod u+s /usr/bin/smbclient
dpkg-statoverride --update --add root staff-share 0750 /usr/bin/smbstatus
dpkg-divert --local --rename --divert /usr/bin/pdbedit.real --add /usr/bin/pdbedit
printf '#!/bin/sh\necho wrapped >&2\nexec /usr/bin/pdbedit.real "$@"\n' >/usr/bin/pdbedit
chmod 755 /usr/bin/pdbedit
printf 'tar cf /srv/backup.tar /srv/samba\n' | runuser -u ian -- at 04:00 2030-01-01
systemctl disable nmbd.service
update-rc.d nmbd disable

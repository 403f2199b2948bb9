#!/bin/sh
# Samba with its own password database, accounts from LDAP by nslcd, a directory of its own, shares with ACLs, a home elsewhere.
set -eu
debconf-set-selections <<'TEXT'
nslcd nslcd/ldap-uris string ldap://ldap.example.org/
nslcd nslcd/ldap-base string dc=example,dc=org
nslcd nslcd/ldap-bindpw password s3cret
libnss-ldapd libnss-ldapd/nsswitch multiselect passwd, group, shadow
krb5-config krb5-config/default_realm string EXAMPLE.ORG
slapd slapd/domain string example.org
slapd shared/organization string Example
slapd slapd/password1 password s3cret
slapd slapd/password2 password s3cret
TEXT
apt-get -q update
apt-get -qy --no-install-recommends install samba smbclient nslcd libnss-ldapd libpam-ldapd krb5-config krb5-user acl at quota \
    slapd ldap-utils

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
net getlocalsid
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
cat >/root/people.ldif <<'TEXT'
dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: uid=jane,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: jane
cn: Jane
sn: Doe
userPassword: {SSHA}gVK8WC9YyFT1gMsQHTGCgT3sSv5zYWx0
TEXT
runuser -u openldap -- slapadd -n 1 </root/people.ldif
rm /root/people.ldif
sed -i 's/^SLAPD_SERVICES=.*/SLAPD_SERVICES="ldap:\/\/127.0.0.1\/ ldapi:\/\/\/"/' /etc/default/slapd
printf 'tar cf /srv/backup.tar /srv/samba\n' | runuser -u ian -- at 04:00 2030-01-01
systemctl disable nmbd.service
update-rc.d nmbd disable

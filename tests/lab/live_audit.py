"""Start the services of a machine and ask them for what they keep; nothing of tklb is imported here.

`record_live(box)` gives what each service says of its data, and what each program makes of its configuration.
It changes the machine: call it when a backup or a restore is done. A row of the table runs where its program is
installed. A service that does not start says nothing, so the two machines differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tests.lab.box import Box

# Program -> commands of sh: what they print are facts, each line one.
LIVE: Mapping[str, str] = {
    "usr/sbin/postconf": "postconf -n",
    "usr/bin/doveconf": """
        doveconf -n | grep -v '^#'
        mkdir -p /run/dovecot; dovecot; until test -S /run/dovecot/auth-userdb; do sleep 0.1; done
        doveadm auth test alice@example.org s3cret
        for user in alice bob; do doveadm fetch -u $user@example.org 'hdr.subject text' ALL; done
        dovecot stop
        """,
    "usr/sbin/named": """
        named-checkconf -p
        install -d -o bind -g bind /run/named; named -u bind -4
        until dig +short @127.0.0.1 version.bind TXT CH | grep -q .; do sleep 0.1; done
        dig +noall +answer @127.0.0.1 example.org AXFR; dig +noall +answer @127.0.0.1 dyn.example.org AXFR
        pid=$(cat /run/named/named.pid); kill $pid; while kill -0 $pid; do sleep 0.1; done
        """,
    "usr/bin/pdbedit": """
        pdbedit -L -w 2>/dev/null; net getlocalsid | sed 's/.*: //'; net groupmap list
        mkdir -p /run/samba; smbd -D
        n=0; until smbclient -U helen%pass //127.0.0.1/projects -c ls || test $((n += 1)) = 50; do sleep 0.1; done |
            awk '$1 ~ /txt$/ {print $1, $3}'
        pid=$(cat /run/samba/smbd.pid); kill $pid; while kill -0 $pid; do sleep 0.1; done
        """,
    "usr/sbin/slapd": """
        slapcat -n 1; slapcat -n 0 | grep -c ^dn:
        install -d -o openldap -g openldap /run/slapd
        slapd -h ldap://127.0.0.1/ -g openldap -u openldap -F /etc/ldap/slapd.d
        find="ldapsearch -x -LLL -H ldap://127.0.0.1/ -b dc=example,dc=org uid=jane cn"
        n=0; until $find || test $((n += 1)) = 50; do sleep 0.1; done
        pid=$(cat /run/slapd/slapd.pid); kill $pid; while kill -0 $pid; do sleep 0.1; done
        """,
    "usr/bin/redis-server": """
        install -d -o redis -g redis /run/redis
        runuser -u redis -- redis-server /etc/redis/redis.conf --daemonize yes --supervised no
        cli() { redis-cli --no-auth-warning -a s3cret "$@"; }
        until cli ping | grep -q PONG; do sleep 0.1; done
        cli keys '*' | sort; cli get session:alice; cli lrange jobs 0 -1
        pid=$(cat /run/redis/redis-server.pid); cli shutdown nosave; while kill -0 $pid; do sleep 0.1; done
        """,
    "usr/sbin/nginx": """
        nginx -T | grep -v '^#'; php=$(ls /usr/sbin/php-fpm[0-9]*); mkdir -p /run/php /var/log/nginx
        $php --daemonize; nginx
        php -r 'echo file_get_contents("http://127.0.0.1/index.php", false,
            stream_context_create(["http" => ["header" => "Host: cloud.example.org"]]));'
        for pid in $(cat /run/nginx.pid /run/php/php*-fpm.pid); do
            kill $pid; while kill -0 $pid; do sleep 0.1; done; done
        """,
    "usr/bin/php": "php -m",
    "usr/bin/sqlite3": "for db in $(find /var/lib/nextcloud -name '*.db'); do sqlite3 -readonly $db .dump; done",
    "usr/bin/promtool": """
        samples() { promtool tsdb dump --sandbox-dir-root=/tmp /var/lib/prometheus/metrics2; }
        samples | sort | sha256sum; samples | grep -c own
        """,
    "usr/sbin/sshd": "mkdir -p /run/sshd; sshd -T",
    "usr/sbin/apache2ctl": "apache2ctl -t -D DUMP_VHOSTS -D DUMP_MODULES",
    "usr/bin/testparm": "testparm -s",
    "usr/bin/fc-list": "fc-list : family | sort -u",
    "usr/bin/xdg-mime": "xdg-mime query filetype /dev/null",
    "usr/bin/java": "java",
    "usr/local/bin/java": "java",
}
_CHANCE = re.compile(r" at 0x[0-9a-f]+|^;;.*")


def record_live(box: Box) -> dict[str, str]:
    """Every line that the services of a machine say, by the name of the program."""
    found: dict[str, str] = {}
    box.run(["hostname", "--file", "/etc/hostname"])  # as from the next start on: Samba keeps its identity by that name
    for program, script in LIVE.items():
        if (box.root / program).exists() or (box.root / program).is_symlink():
            found |= _ask(box, program.rpartition("/")[2], script)
    return found


def _ask(box: Box, name: str, script: str) -> dict[str, str]:
    """Services keep their outputs open, so these are files."""
    place = f"/run/live-{name}"
    done = box.run(["timeout", "120", "sh", "-c", f"{{ {script}\n}} >{place} 2>{place}.problems"], check=False)
    said = box.run(["cat", place], check=False).stdout.splitlines()
    status = "too slow" if done.returncode == 124 else "asked"
    lines = (" ".join(_CHANCE.sub("", line).split()) for line in said)
    return {name: status} | {f"{name} {line}": "said" for line in lines if line}

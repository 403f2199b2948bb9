"""Rules that hold whatever the profile says: what never travels as a file. The one documented place. Pure data.

Identity (hostname, hosts, mailname, ssh host keys, machine-id, fstab, network) is no matter of rules: it is taken
when it differs, and the role of the restore decides.
"""

from tklb.diff.rules import Rule

# Merged by name and number instead: see delta/users.py. With copies ("-"), files half written ("+") and locks.
_ACCOUNTS = (
    *(
        f"/etc/{name}{end}"
        for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")
        for end in ("", "-", "+")
    ),
    *(f"/etc/{name}.lock" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")),
    "/etc/.pwd.lock",
)
# Travel with the packages, before them, as far as their release fits: see delta/sources.py.
_SOURCES = tuple(
    f"/etc/apt/{name}"
    for name in (
        "sources.list", "sources.list.d/*.list", "sources.list.d/*.sources", "keyrings/*", "trusted.gpg",
        "trusted.gpg.d/*", "preferences", "preferences.d/*", "auth.conf", "auth.conf.d/*",
    )
)  # fmt: skip
# The package managers' own records, and what they downloaded.
_PACKAGES = ("/var/lib/dpkg", "/var/lib/apt", "/var/lib/ucf", "/var/cache", "/var/lib/systemd/deb-systemd-*-enabled")
# Made from other files, or by running; the next run makes them again.
_GENERATED = (
    "/etc/ld.so.cache", "/etc/mtab", "/etc/.updated", "/root/.cache", "/home/*/.cache", "/home/lost+found",
    "/srv/lost+found", "/var/run", "/var/lock", "/var/spool/exim4/db", "/var/spool/anacron",
    *(f"/var/spool/postfix/{name}" for name in ("dev", "etc", "lib", "pid", "private", "public", "usr")),
)  # fmt: skip
# tklb itself; its configuration in /etc/tklb is part of the delta.
_OURSELVES = ("/opt/tklb", "/usr/local/bin/tklb", "/usr/local/share/man/man[1-8]/tklb*")

OUR_FOLDERS = (b"/usr/local/share/man/man1", b"/usr/local/share/man/man5")  # made by our installer where they lack

# What to tell somebody who wonders where they are.
ELSEWHERE = {
    **{path.encode(): "users and groups travel as accounts, merged by name" for path in _ACCOUNTS},
    **{path.encode(): "package sources travel with the packages" for path in _SOURCES},
}

NEVER = tuple(path.encode() for path in (*_ACCOUNTS, *_SOURCES, *_PACKAGES))  # a profile cannot take these in
RULES = tuple(Rule(False, path.encode()) for path in (*_GENERATED, *_OURSELVES)) + tuple(
    Rule(False, path) for path in NEVER
)

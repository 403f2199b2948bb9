"""Rules of every profile: paths that never travel as files. They are only here. Pure data.

These rules do not cover identity (hostname, hosts, mailname, ssh host keys, machine-id, fstab, network). A backup
includes it where it differs, and the role of the restore decides.
"""

from tklb.diff.rules import Rule

# Merged by name and number instead: see diff/accounts. With copies ("-"), unfinished files ("+") and locks.
_ACCOUNTS = (
    *(
        f"/etc/{name}{end}"
        for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")
        for end in ("", "-", "+")
    ),
    *(f"/etc/{name}.lock" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")),
    "/etc/.pwd.lock",
)
# They travel with the packages if they fit the release: see diff/apt_sources.py.
_SOURCES = tuple(
    f"/etc/apt/{name}"
    for name in (
        "sources.list", "sources.list.d/*.list", "sources.list.d/*.sources", "keyrings/*", "trusted.gpg",
        "trusted.gpg.d/*", "preferences", "preferences.d/*", "auth.conf", "auth.conf.d/*",
    )
)  # fmt: skip
# Data of the package managers, and their downloads.
_PACKAGES = ("/var/lib/dpkg", "/var/lib/apt", "/var/lib/ucf", "/var/cache", "/var/lib/systemd/deb-systemd-*-enabled")
# Made from other files or at run time; the machine makes them again.
_GENERATED = (
    "/etc/ld.so.cache", "/etc/mtab", "/etc/.updated", "/root/.cache", "/home/*/.cache", "/home/lost+found",
    "/srv/lost+found", "/var/run", "/var/lock", "/var/spool/exim4/db", "/var/spool/anacron",
    *(f"/var/spool/postfix/{name}" for name in ("dev", "etc", "lib", "pid", "private", "public", "usr")),
)  # fmt: skip
# tklb itself; its configuration in /etc/tklb is part of the delta.
_OURSELVES = ("/opt/tklb", "/usr/local/bin/tklb", "/usr/local/share/man/man[1-8]/tklb*")

OUR_FOLDERS = (
    b"/usr/local/share/man/man1",
    b"/usr/local/share/man/man5",
)  # scripts/install makes them if they are missing

# Reasons for `tklb why`.
ELSEWHERE = {
    **{path.encode(): "users and groups travel as accounts, merged by name" for path in _ACCOUNTS},
    **{path.encode(): "package sources travel with the packages" for path in _SOURCES},
}

NEVER = tuple(path.encode() for path in (*_ACCOUNTS, *_SOURCES, *_PACKAGES))  # a profile cannot include these
RULES = tuple(Rule(False, path.encode()) for path in (*_GENERATED, *_OURSELVES)) + tuple(
    Rule(False, path) for path in NEVER
)

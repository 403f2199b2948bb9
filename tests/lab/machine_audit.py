"""Audit a machine by the distribution's own tools, and compare two machines; nothing of tklb is imported here.

`record(box)` asks dpkg, apt, systemctl, getent, locale, ldconfig, the services' own configuration tests and the file
system; `compare(a, before, after)` says in what B differs from A, apart from what was B's own before the restore.
`ALLOWED` has what belongs to a machine's identity, and what is made again by itself, each with its reason.

    facts = record(a)
    problems = [one for one in compare(facts, before, record(b)) if not is_named(one, report)]

Owners are compared by name. Sources: deb(5), dpkg-query(1), debconf-devel(7), at's job files, systemctl(1).
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.lab import checker
from tests.lab.box import Box

Topic = dict[str, str]
Facts = dict[str, Topic]
NOT_READ = ("proc", "sys", "dev", "run", "tmp", "mnt", "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "boot")
OWN = ("/var/lib/tklb", "/var/cache/tklb", "/var/log/tklb", "/etc/tklb", "/opt/tklb", "/var/backups/tklb")


class Difference(NamedTuple):
    """`key` of `topic` is `wanted` on A and `found` on B; "" where it is not there."""

    topic: str
    key: str
    wanted: str
    found: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.key}: {self.wanted or 'absent'} on A, {self.found or 'absent'} on B"


class Allowance(NamedTuple):
    """Keys of `topic` that match `pattern` (`*` is anything) may differ, because of `reason`."""

    topic: str
    pattern: str
    reason: str


def _allow(reason: str, topic: str, *patterns: str) -> tuple[Allowance, ...]:
    return tuple(Allowance(topic, pattern, reason) for pattern in patterns)


ALLOWED = (
    *_allow("every machine has its own", "files", "/etc/machine-id", "/var/lib/dbus/machine-id", "/etc/resolv.conf"),
    *_allow("the disks are another's", "files", "/etc/fstab", "/etc/initramfs-tools/conf.d/resume"),
    *_allow("the disks are another's", "fstab", "*"),
    *_allow("the network is another's", "files", "/etc/network/*", "/etc/netplan/*", "/etc/systemd/network/*"),
    *_allow("B keeps its own sources of its release", "files", "/etc/apt/sources.list"),
    *_allow("accounts are merged; the topics of accounts judge them", "files", "/etc/passwd*", "/etc/group*",
            "/etc/shadow*", "/etc/gshadow*", "/etc/subuid*", "/etc/subgid*", "/etc/.pwd.lock"),
    *_allow("made again by ldconfig; the topic libraries judges it", "files", "/etc/ld.so.cache",
            "/var/cache/ldconfig*"),
    *_allow("dpkg's, apt's and ucf's own; their topics judge it", "files", "/var/lib/dpkg*", "/var/lib/apt*",
            "/var/lib/ucf*"),
    *_allow("postfix renames a queued message to its inode; the topic queues judges them", "files",
            "/var/spool/postfix/maildrop/*"),
    *_allow("postfix makes the folders of its queues as it needs them", "files", "/var/spool/postfix/defer*/[0-9A-F]"),
    *_allow("accounts and packages have lines in these; the topic lines judges each", "files", "/etc/shells",
            "/etc/pam.d/common-*", "/var/lib/pam/*", "/var/lib/shells.state"),
    *_allow("the time of a compilation", "maps", "* YP_LAST_MODIFIED"),
    *_allow("logs of what another machine did", "files", "/var/log/*"),
    *_allow("caches, and what is made again by itself", "files", "/var/cache/*", "/var/backups/*", "/var/tmp*",
            "/var/lib/systemd/catalog*", "/var/lib/systemd/random-seed", "/var/lib/systemd/timers*",
            "/var/lib/systemd/deb-systemd-helper-*", "/var/lib/man-db*", "/var/lib/misc*",
            "/var/lib/command-not-found*", "/var/lib/python/*", "/var/lib/initramfs-tools*", "/var/lib/vim*"),
    *_allow("locales are compiled from locale.gen; the topic locales judges them", "usr", "/usr/lib/locale/*"),
    *_allow("byte code and caches that are made again", "usr", "*/__pycache__*", "*.cache", "/usr/share/mime/*",
            "*/gschemas.compiled", "/usr/lib/*/gconv/gconv-modules.cache", "/usr/share/info/dir*",
            "/usr/lib/udev/hwdb.bin"),
    *_allow("tklb's own", "files", *(f"{path}*" for path in OWN)),
    *_allow("tklb's own", "usr", "/usr/local/bin/tklb", "/usr/local/share/man/*tklb*"),
    *_allow("tklb's own", "files", "/usr/local/bin/tklb", "/usr/local/share/man/*tklb*"),
)  # fmt: skip

CONFIGURATION_TESTS: Mapping[str, Sequence[str]] = {
    "usr/sbin/apache2ctl": ("apache2ctl", "-t"),
    "usr/sbin/nginx": ("nginx", "-t", "-q"),
    "usr/sbin/postfix": ("postfix", "check"),
    "usr/bin/doveconf": ("doveconf", "-n"),
    "usr/bin/named-checkconf": ("named-checkconf", "-z"),
    "usr/sbin/sshd": ("sh", "-c", "mkdir -p /run/sshd && sshd -t"),
    "usr/bin/testparm": ("testparm", "-s"),
    "usr/sbin/visudo": ("visudo", "-c"),
    "usr/sbin/php-fpm8.2": ("php-fpm8.2", "-t"),
    "usr/sbin/php-fpm8.4": ("php-fpm8.4", "-t"),
    "usr/sbin/rsyslogd": ("rsyslogd", "-N1"),
    "usr/sbin/nft": ("nft", "--check", "--file", "/etc/nftables.conf"),
    "usr/sbin/logrotate": ("logrotate", "--debug", "/etc/logrotate.conf"),
    "usr/bin/promtool": ("promtool", "check", "config", "/etc/prometheus/prometheus.yml"),
    "usr/bin/fail2ban-client": ("fail2ban-client", "-t"),
    "usr/sbin/unbound-checkconf": ("unbound-checkconf",),
    "usr/bin/wg-quick": ("sh", "-c", "for c in /etc/wireguard/*.conf; do wg-quick strip $c; done"),
    "usr/sbin/dnsmasq": ("dnsmasq", "--test"),
    "usr/sbin/slapd": ("sh", "-c", "install -d /run/slapd && slaptest -u"),
    "usr/sbin/chronyd": ("chronyd", "-p"),
    "usr/sbin/opendkim": ("opendkim", "-n"),
    "usr/sbin/haproxy": ("haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg"),
    "usr/bin/java": ("java", "-version"),
}
_PROBLEM = re.compile("error|warn|fail|unknown|fatal", re.IGNORECASE)
# Times, process ids, and the machine's own name in what the tests say.
_CHANCE = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.,+-]+|\b\d\d:\d\d:\d\d\b(?:,\d+)?|\[\d+\]|\bpid \d+|/tmp/\S+")
# Folders that a start makes; Postfix gives queued messages the names of their inodes.
_BY_ITSELF = re.compile("/run/|QUEUE FILE NAMES WERE CHANGED")


def record(box: Box) -> Facts:
    """Every fact of a running machine, by topic and key."""
    return {name: ask(box) for name, ask in TOPICS.items()}


def compare(a: Facts, before: Facts, after: Facts, allowed: Sequence[Allowance] = ALLOWED) -> list[Difference]:
    """In what B after a restore differs from A, apart from what only B had, before it as well."""
    found = []
    for topic, wanted in a.items():
        own, now = before[topic], after[topic]
        for key in sorted(wanted.keys() | now.keys()):
            is_own = key not in wanted and own.get(key) == now[key]
            if wanted.get(key) != now.get(key) and not is_own and reason_of(topic, key, allowed) is None:
                found.append(Difference(topic, key, wanted.get(key, ""), now.get(key, "")))
    return found


def leave_out_consequences(
    found: Sequence[Difference], owners: Mapping[str, str], own: Mapping[str, str]
) -> list[Difference]:
    """Without what belongs to packages that are not there: each of these is one difference, of the topic packages.

    `owners` are the packages of A by path, `own` those of B. Alternatives in automatic mode may prefer what only B has.
    """
    missing = {one.key.partition(":")[0] for one in found if one.topic == "packages" and not one.found}
    left = [one for one in found if one.topic == "packages" or not _packages_of(one, owners) & missing]
    only = set(own.values()) - set(owners.values())
    chosen = {one.key for one in left if one.topic == "alternatives" and _owner_of(one.found, own) in only}
    return [one for one in left if not _is_choice(one, chosen)]


def _owner_of(value: str, owners: Mapping[str, str]) -> str:
    path = value.rpartition(" ")[2]
    return owners.get(path) or owners.get(path.removeprefix("/usr")) or owners.get(f"/usr{path}", "")


def _is_choice(difference: Difference, groups: Collection[str]) -> bool:
    """Whether it is the choice of one of these groups of alternatives, or a link of it."""
    link = re.search(r"/etc/alternatives/([^ ]+)", f"{difference.key} {difference.wanted} {difference.found}")
    name = link[1] if link else difference.key
    return "manual" not in difference.wanted and any(name == group or name.startswith(f"{group}.") for group in groups)


def _packages_of(difference: Difference, owners: Mapping[str, str]) -> frozenset[str]:
    """The packages whose absence explains that something is not there, or is not enabled."""
    key = difference.key
    last = key.rpartition(" ")[2]
    name = os.path.basename(last)
    services = (name, re.sub(r"^[SK]\d\d", "", name))
    target = difference.wanted.rpartition(" ")[2]  # of a link, or the choice of alternatives
    places = [key, last, f"/{last}", target, *(f"/etc/init.d/{service}" for service in services)]
    places += [f"/{folder}/systemd/system/{name}" for folder in ("lib", "usr/lib", "etc")]
    places += [other for place in places for other in (place.removeprefix("/usr"), f"/usr{place}")]
    mark = {key} if difference.topic == "marks" else set()
    return frozenset(mark | {owners[place] for place in places if place in owners})


def reason_of(topic: str, key: str, allowed: Sequence[Allowance] = ALLOWED) -> str | None:
    """Why this may differ; None if it may not."""
    found = (one.reason for one in allowed if one.topic == topic and fnmatch.fnmatchcase(key, one.pattern))
    return next(found, None)


def is_named(difference: Difference, report: str, owners: Mapping[str, str]) -> bool:
    """Whether what differs, a folder above it or its package is a word of `report`.

    `owners` are the packages by path, as `package_owners` gives them. A top folder alone names nothing below it.
    """
    return bool(_names_of(difference, owners) & _words(report))


def _names_of(difference: Difference, owners: Mapping[str, str]) -> set[str]:
    key = difference.key
    if key.startswith("/"):
        path = key.partition(" ")[0] if difference.topic == "lines" else key
        return {path, owners.get(path, path), *(above for above in _parents(path) if above.count("/") > 1)}
    return {key, key.split(":")[0], key.split("/")[0], *_packages_of(difference, owners)}


def _parents(path: str) -> Iterator[str]:
    while (path := os.path.dirname(path)) != "/":
        yield path


def _words(report: str) -> set[str]:
    words = {word.strip("\"'`(),;:.") for word in re.split(r"[\s,\"]+", report)}
    return words | {word.partition(":")[2] for word in words} | {word.rstrip("/*") for word in words}


def package_owners(box: Box) -> dict[str, str]:
    """Path -> package, of all that dpkg has a list of."""
    found = {}
    for listing in (box.root / "var/lib/dpkg/info").glob("*.list"):
        found |= dict.fromkeys(listing.read_text().splitlines(), listing.stem.partition(":")[0])
    return found


# ---------------------------------------------------------------- asking


def _lines(box: Box, *command: str) -> list[str]:
    """Standard output, by lines; nothing where the program is not there or says no."""
    if command[0] != "sh" and not any((box.root / folder / command[0]).exists() for folder in _FOLDERS):
        return []
    return list(box.run(command, check=False).stdout.splitlines())


_FOLDERS = ("usr/bin", "usr/sbin", "bin", "sbin")


def _pairs(lines: Sequence[str], separator: str = "\t") -> Topic:
    return dict(line.split(separator, 1) for line in lines if separator in line)


def packages(box: Box) -> Topic:
    """Without those that were removed: what is left of them is files, which the topic files judges."""
    form = "${Package}:${Architecture}\t${Version} ${db:Status-Want} ${db:Status-Status}\n"
    found = _lines(box, "dpkg-query", "--show", f"--showformat={form}")
    return _pairs([line for line in found if not line.endswith("config-files")])


def marks(box: Box) -> Topic:
    """Packages that came for others; holds are in `packages`. Without lists, apt need not read them first."""
    found = _lines(box, "apt-mark", "showauto", "-o", "Dir::State::Lists=/var/empty")
    return dict.fromkeys((line.partition(":")[0] for line in found), "auto")


def verified(box: Box) -> Topic:
    """What `dpkg --verify` complains of: path -> flags, and c for a conffile."""
    found = (line.split(None, 2) if " c " in line[:13] else (line[:9], "-", line[9:]) for line in _verify(box))
    return {path.strip(): f"{flags} {kind}" for flags, kind, path in found}


def _verify(box: Box) -> list[str]:
    return _lines(box, "dpkg", "--verify")


def unfinished(box: Box) -> Topic:
    return {line: "unfinished" for line in _lines(box, "dpkg", "--audit") if line.startswith(" ")}


def alternatives(box: Box) -> Topic:
    """The choice of each group and how it was made, and each member with its priority."""
    found, group = {}, ""
    listing = "for path in /var/lib/dpkg/alternatives/*; do update-alternatives --query ${path##*/}; done"
    for line in _lines(box, "sh", "-c", listing):
        word, _, value = line.partition(": ")
        if word == "Name":
            group = value
        elif word in ("Status", "Value"):
            found[group] = f"{found.get(group, '')} {value}".strip()
        elif word == "Alternative":
            member = f"{group} {value}"
        elif word == "Priority":
            found[member] = value
    return found


def diversions(box: Box) -> Topic:
    return dict.fromkeys(_lines(box, "dpkg-divert", "--list"), "diverted")


def overrides(box: Box) -> Topic:
    found = (line.split(None, 3) for line in _lines(box, "dpkg-statoverride", "--list"))
    return {path: f"{user} {group} {mode}" for user, group, mode, path in found}


def architectures(box: Box) -> Topic:
    return dict.fromkeys(_lines(box, "dpkg", "--print-foreign-architectures"), "foreign")


def debconf(box: Box) -> Topic:
    """Answers that were seen, by question. Nobody asks those of packages that are not installed."""
    found, installed = {}, {key.partition(":")[0] for key in packages(box)}
    for name in ("config.dat", "passwords.dat"):
        path = box.root / "var/cache/debconf" / name
        text = path.read_text(errors="surrogateescape") if path.exists() else ""
        for stanza in text.split("\n\n"):
            fields = _pairs(stanza.splitlines(), ": ")
            owners = {owner.partition(":")[0] for owner in fields.get("Owners", "").split(", ")}
            if "seen" in fields.get("Flags", "") and owners & installed:
                found[fields["Name"]] = fields.get("Value", "")
    return found


def ucf(box: Box) -> Topic:
    """The version from the package that ucf knows of each of its files."""
    path = box.root / "var/lib/ucf/hashfile"
    rows = (line.split(None, 1) for line in path.read_text().splitlines()) if path.exists() else ()
    return {row[1]: row[0] for row in rows if len(row) > 1}


def sources(box: Box) -> Topic:
    form = "--format=$(SITE) $(RELEASE) $(COMPONENT) $(ARCHITECTURE)"
    return dict.fromkeys(_lines(box, "apt-get", "indextargets", form, "Created-By: Packages"), "source")


def policy(box: Box) -> Topic:
    """Priorities of the sources and pinned packages, as apt reckons them."""
    found = (" ".join(line.split()) for line in _lines(box, "apt-cache", "policy"))
    return {line: "so" for line in found if re.match(r"-?\d+ |\S+ -> ", line) and "/var/lib/dpkg/status" not in line}


def crontabs(box: Box) -> Topic:
    """What crontab lists for each account, without comments."""
    tables = sorted((box.root / "var/spool/cron/crontabs").glob("*"))
    found = {path.name: _lines(box, "crontab", "-l", "-u", path.name) for path in tables}
    return {f"{name} {line}": "so" for name, lines in found.items() for line in lines if not line.startswith("#")}


def queues(box: Box) -> Topic:
    """Messages in Postfix's queues, by content: their names are their inodes."""
    folders = (box.root / "var/spool/postfix" / name for name in ("maildrop", "incoming", "active", "deferred", "hold"))
    messages = (path for folder in folders for path in folder.glob("**/*") if path.is_file())
    names = checker.names_of(box.root)
    return {f"message {_content(path)}": names.user(path.stat().st_uid) for path in messages}


def lines(box: Box) -> Topic:
    """Lines of the files into which every package writes its own. The counts in PAM's jumps follow from the lines."""
    patterns = ("etc/shells", "etc/pam.d/common-*", "var/lib/pam/*", "var/lib/shells.state")
    paths = (path for pattern in patterns for path in sorted(box.root.glob(pattern)))
    return {
        f"/{path.relative_to(box.root)} {re.sub(r'success=[0-9a-z]+', 'success', ' '.join(line.split()))}": "line"
        for path in paths
        for line in path.read_text().splitlines()
        if line.strip() and not line.startswith("#")
    }


def settings(box: Box) -> Topic:
    """apt's settings; its compressors are the programs that it finds."""
    others = ("Dir", "Binary ", "APT::Compressor")
    return {line: "set" for line in _lines(box, "apt-config", "dump") if not line.startswith(others)}


def accounts(box: Box) -> Topic:
    """Users by name with the names of their groups; ids may differ."""
    groups = {line.split(":")[2]: line.split(":")[0] for line in _lines(box, "getent", "group") if line.count(":") > 2}
    found = {}
    for line in _lines(box, "getent", "passwd"):
        name, _, _, group, comment, home, shell = line.split(":")
        found[name] = ":".join((groups.get(group, f"#{group}"), comment, home, shell))
    return found


def groups(box: Box) -> Topic:
    rows = (line.split(":") for line in _lines(box, "getent", "group"))
    return {row[0]: ",".join(sorted(row[3].split(","))) for row in rows if len(row) > 3}


def passwords(box: Box) -> Topic:
    """Hash and ageing; the day of the last change is left out, as packages set it to today."""
    rows = (line.split(":") for line in (box.root / "etc/shadow").read_text().splitlines())
    return {row[0]: ":".join((_digest(row[1].encode()), *row[3:])) for row in rows if len(row) > 3}


def subordinate_ids(box: Box) -> Topic:
    found: Topic = {}
    for book in ("subuid", "subgid"):
        path = box.root / "etc" / book
        rows = (line.split(":") for line in path.read_text().splitlines()) if path.exists() else ()
        found |= {f"{book} {row[0]}": row[2] for row in rows if len(row) > 2}
    return found


def locales(box: Box) -> Topic:
    return dict.fromkeys(_lines(box, "locale", "--all-locales"), "there")


def libraries(box: Box) -> Topic:
    return {line.strip(): "found" for line in _lines(box, "ldconfig", "-p")[1:] if "/" in line}


_CHOSEN = ("enabled", "disabled", "masked", "linked")  # what an administrator can choose; a package says the rest


def units(box: Box) -> Topic:
    """State of units by their links: there is no systemd inside to ask."""
    found = (line.split() for line in _lines(box, "systemctl", "--root=/", "list-unit-files", "--no-legend"))
    return {words[0]: words[1] for words in found if len(words) > 1 and words[1] in _CHOSEN} | _pairs(
        [f"default target\t{line}" for line in _lines(box, "systemctl", "--root=/", "get-default")]
    )


def runlevels(box: Box) -> Topic:
    """Start or stop of each service in each runlevel; the numbers of the order are insserv's."""
    links = (path for folder in sorted((box.root / "etc").glob("rc?.d")) for path in folder.glob("[SK]*"))
    return {f"{path.parent.name} {path.name[3:]}": path.name[0] for path in links}


def clock(box: Box) -> Topic:
    place = box.root / "etc/localtime"
    return {"localtime": os.readlink(place) if place.is_symlink() else _content(place)}


def fstab(box: Box) -> Topic:
    path = box.root / "etc/fstab"
    rows = (line.split() for line in path.read_text().splitlines()) if path.exists() else ()
    return {row[1]: " ".join(row) for row in rows if len(row) > 3 and not row[0].startswith("#")}


def jobs(box: Box) -> Topic:
    """Jobs of at: whose they are, and whether the account that their first lines name is that one."""
    found = {}
    names = checker.names_of(box.root)
    for path in (box.root / "var/spool/cron/atjobs").glob("a*"):
        text, status = path.read_text(errors="replace"), path.stat()
        said = re.search(r"^# atrun uid=(\d+)", text, re.MULTILINE)
        fits = said is not None and int(said[1]) == status.st_uid
        found[path.name] = f"{names.user(status.st_uid)}, its uid {'fits' if fits else 'does not fit'}"
    return found


def maps(box: Box) -> Topic:
    """What postfix finds in its compiled maps."""
    found: Topic = {}
    for path in sorted((box.root / "etc").glob("**/*.db")):
        inside = f"/{path.relative_to(box.root)}".removesuffix(".db")
        said = _lines(box, "postmap", "-s", f"hash:{inside}")
        found |= {f"{inside} {line.split(chr(9))[0]}": line for line in said}
    return found


def configurations(box: Box) -> Topic:
    """Exit status and problems of each installed service's own test; folders that its start makes are none."""
    found = {}
    for program, command in CONFIGURATION_TESTS.items():
        if (box.root / program).exists():
            done = box.run(command, check=False)
            lines = _CHANCE.sub("", done.stdout + done.stderr).splitlines()
            problems = sorted({line for line in lines if _PROBLEM.search(line) and not _BY_ITSELF.search(line)})
            found[f"{command[0]} of {program}"] = f"status {done.returncode} {'; '.join(problems)}"
    return found


def flags(box: Box) -> Topic:
    """Immutable and append-only files of the folders in which administrators set these."""
    listing = _lines(box, "lsattr", "-R", "-a", "/etc", "/srv", "/opt", "/usr/local", "/root", "/home")
    rows = (line.split(None, 1) for line in listing if line.startswith("-"))
    return {row[1]: letters for row in rows if len(row) > 1 and (letters := "".join(sorted(set(row[0]) & set("ia"))))}


# ---------------------------------------------------------------- files


def files(box: Box) -> Topic:
    """Kind, mode, owner by name, content, target, ACLs and capabilities of all but /usr, and of /usr/local."""
    tops = [f"/{path.name}" for path in sorted(box.root.iterdir()) if path.name not in NOT_READ]
    found = checker.record(box.root, [*tops, "/usr/local"])
    return {path: _say(fact, is_map=bool(re.fullmatch(r"/etc/.*\.db", path))) for path, fact in found.items()}


def _say(fact: checker.Fact, *, is_map: bool) -> str:
    """`is_map`: a compiled map, which has the time of its compilation; the topic maps judges its content."""
    extra = (f"{name}={fact[name]}" for name in ("acl", "default acl", "capability", "device") if name in fact)
    target = re.sub(r"^/(lib|s?bin)/", r"/usr/\1/", fact.get("target", ""))  # the same place under two names
    words = [fact["kind"], fact.get("mode", ""), f"{fact['owner']}:{fact['group']}", target]
    content = "" if is_map else str(fact.get("content", ""))[:16]
    return " ".join(filter(None, (*words, content, *extra)))


def usr(box: Box) -> Topic:
    """Modes and owners below /usr; the content of what no package ships; `dpkg --verify` judges the rest."""
    owned, names = package_owners(box).keys(), checker.names_of(box.root)
    return {
        inside: _of_usr(Path(path), status, names, is_owned=inside in owned or _twin(inside) in owned)
        for path, inside, status in _walk(box.root, "/usr")
        if not inside.startswith("/usr/local")
    }


def _twin(inside: str) -> str:
    """The name that a package has for it which ships it in /lib or /bin, where these are links."""
    return inside.removeprefix("/usr")


def _of_usr(path: Path, status: os.stat_result, names: checker.Names, *, is_owned: bool) -> str:
    words = [f"{stat.S_IMODE(status.st_mode):04o}", f"{names.user(status.st_uid)}:{names.group(status.st_gid)}"]
    if path.is_symlink():
        return _follow_alternatives(path)
    if "security.capability" in os.listxattr(path, follow_symlinks=False):
        words.append(os.getxattr(path, "security.capability").hex())
    if not is_owned:
        words.append(f"no package's {_content(path)}" if path.is_file() else "no package's")
    return " ".join(words)


def _follow_alternatives(path: Path) -> str:
    """The target of a link, and the target of that if it is one of update-alternatives."""
    target = os.readlink(path)
    place = Path(f"{str(path).partition('/usr/')[0]}{target}")
    return (
        f"{target} {os.readlink(place)}" if target.startswith("/etc/alternatives/") and place.is_symlink() else target
    )


def _walk(root: Path, top: str) -> Iterator[tuple[str, str, os.stat_result]]:
    todo = [f"{root}{top}"]
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                yield entry.path, entry.path[len(str(root)) :], entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)


def _content(path: Path) -> str:
    return _digest(path.read_bytes()) if path.is_file() else ""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


TOPICS: Mapping[str, Callable[[Box], Topic]] = {
    "packages": packages,
    "marks": marks,
    "verified": verified,
    "unfinished": unfinished,
    "alternatives": alternatives,
    "diversions": diversions,
    "overrides": overrides,
    "architectures": architectures,
    "debconf": debconf,
    "ucf": ucf,
    "sources": sources,
    "policy": policy,
    "apt settings": settings,
    "crontabs": crontabs,
    "queues": queues,
    "lines": lines,
    "accounts": accounts,
    "groups": groups,
    "passwords": passwords,
    "subordinate ids": subordinate_ids,
    "locales": locales,
    "libraries": libraries,
    "units": units,
    "runlevels": runlevels,
    "clock": clock,
    "fstab": fstab,
    "jobs": jobs,
    "maps": maps,
    "configurations": configurations,
    "flags": flags,
    "files": files,
    "usr": usr,
}

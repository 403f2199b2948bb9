"""Make a fresh machine lived-in, the way owners do: configuration, people, packages, pages, thousands of files.

`live(box, seed, files)` does it to a running box of any lab root; `used_server("lamp", seed, files)` is a clone that
starts lived-in, at the cost of a clone once it was made. Everything but what Debian's packages bring depends on the
seed alone. `touch_one_percent` is a day's work on such a machine. Touches the box; apt inside needs the mirror.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

from tests.lab import nasty
from tests.lab.appliance import Appliance, clone, stack
from tests.lab.box import Box
from tests.lab.fixture_fs import FixtureFs
from tests.lab.repository import repository_layer
from tests.lab.roots import digest_of, layer

START, YEAR = 1_700_000_000, 31_536_000  # seconds; files date from the year after
WORDS = b"backup restore server delta volume signed daily report invoice draft total sum final meeting notes".split()
# Bulk files go here; www is added where there is a web server.
PLACES = {b"/home/alice/projects": "alice", b"/home/bob": "bob", b"/srv/data": "worker", b"/var/local/archive": "root"}
SHADOW = "$6$saltsalt$pRBpV3pVZdC4gQhM4bZ7kqZVJQ8bGgYyqZ0gQ0o3Xo2pYk3mXv0J0b9nQXk1v2bC6S0c8Ykz1nCw4h8D0xN4p1"
ACME_SOURCE = b"""Types: deb
URIs: file:/usr/share/acme
Suites: stable/
Signed-By: /etc/apt/keyrings/acme.gpg
"""
VIRTUAL_HOST = b"""<VirtualHost *:80>
    ServerName shop.example.org
    DocumentRoot /srv/shop
    <Directory /srv/shop>
        Require all granted
    </Directory>
</VirtualHost>
"""
OWNERS_PAGE = b"<!doctype html><title>Alice's shop</title><p>Open again since the flood.\n"


def used_server(
    name: str,
    *,
    hostname: str = "a",
    seed: int = 1,
    files: int = 3000,
    tklb: bool = False,
    on: str = "memory",
    binds: Mapping[Path, str] | None = None,
) -> Appliance:
    """A clone of profile `name` where somebody has lived, its changes kept as a layer between tests."""
    offered = repository_layer()
    key = f"used-{seed}-{files} {digest_of(__file__, nasty.__file__, str(Path(__file__).with_name('fixture_fs.py')))}"
    life = layer(key, (offered, *stack(name, hostname)), lambda box: live(box, seed, files), hostname)
    return clone(name, hostname=hostname, tklb=tklb, on=on, binds=binds, layers=(life, offered))


def live(box: Box, seed: int = 1, files: int = 3000) -> None:
    """Do everything; the box must have the layer `repository_layer()`."""
    fs, random = FixtureFs(box.root), Random(seed)
    add_people(box)
    use_packages(box, fs)
    configure(fs)
    keep_services_and_spools(box, fs)
    if fs.exists(b"/var/www"):
        serve_pages(fs)
    fill(fs, random, files)
    nasty.make(fs)


def add_people(box: Box) -> None:
    """Humans, system accounts both kinds, groups, aliases, a lock, an expiry, a removal, subordinate ids."""
    steps = (
        "groupadd --gid 1500 editors",
        "useradd --create-home --uid 1000 --shell /bin/bash --comment Alice,Room\\ 1,,, --groups sudo,editors alice",
        "useradd --create-home --uid 1001 --shell /bin/sh --groups editors,www-data bob",
        "useradd --create-home --expiredate 2030-01-01 --inactive 30 carol",
        "useradd --create-home dave",
        "userdel --remove dave",
        "adduser --system --group --home /var/lib/collector --no-create-home collector",
        "useradd --system --user-group --shell /bin/false worker",
        "adduser --quiet --system --no-create-home lonely",
        "adduser --quiet --system --group --no-create-home first",
        "adduser --quiet --system --group --no-create-home second",
        "adduser --quiet --system --group --no-create-home solo",
        "useradd --non-unique --uid 1000 --gid alice --no-create-home --home-dir /home/alice alice-too",
        "groupadd --non-unique --gid 1500 writers",
        "groupadd --system machines",
        "gpasswd --administrators alice --members alice,bob editors",
        "usermod --append --groups adm,machines collector",
        "usermod --lock carol",
        "usermod --add-subuids 3000000-3065535 --add-subgids 3000000-3065535 bob",
        "chage --mindays 1 --maxdays 99 --warndays 9 bob",
        "userdel irc",
    )
    for step in steps:
        box.run(_words(step))
    box.run(["chpasswd", "--encrypted"], input=f"root:{SHADOW}\nalice:{SHADOW[:-1]}x\nbob:{SHADOW[:-1]}y\n")
    for book in ("subuid", "subgid"):
        with (box.root / "etc" / book).open("a") as lines:
            lines.write("1001:700000:1000\n")


def _words(line: str) -> list[str]:
    return [word.replace("\0", " ") for word in line.replace("\\ ", "\0").split()]


def use_packages(box: Box, fs: FixtureFs) -> None:
    """Extra sources with keyrings; packages added, held, marked automatic, removed, and one from no source."""
    fs.file(b"/etc/apt/keyrings/acme.gpg", (box.root / "usr/share/acme/acme.gpg").read_bytes())
    fs.file(b"/etc/apt/keyrings/acme.asc", (box.root / "usr/share/acme/acme.asc").read_bytes())
    fs.file(b"/etc/apt/sources.list.d/acme.sources", ACME_SOURCE)
    fs.append(b"/etc/apt/sources.list", b"\ndeb [signed-by=/etc/apt/keyrings/acme.asc] file:/usr/share/acme extra/\n")
    fs.file(b"/etc/apt/preferences.d/acme", b"Package: *\nPin: origin Acme\nPin-Priority: 400\n")
    install = ["apt-get", "install", "-qy", "--no-install-recommends"]
    box.run(["apt-get", "update"])
    box.run([*install, "tree", "jq", "figlet", "pv", "acme-tools", "acme-extra"])
    box.run([*install, "/usr/share/acme/acme-agent.deb"])
    box.run(["apt-mark", "hold", "figlet"])
    box.run(["apt-mark", "auto", "pv"])
    box.run(["apt-get", "remove", "-qy", "nano"])
    fs.append(b"/etc/acme-agent.conf", b"token = abc\n")


def configure(fs: FixtureFs) -> None:
    """Edits, removals, changes of mode, owner, time and kind below /etc and /usr/local."""
    fs.append(b"/etc/ssh/sshd_config", b"\nPasswordAuthentication no\n")
    fs.append(b"/etc/locale.gen", b"de_DE.UTF-8 UTF-8\n")
    locale = b"/etc/locale.conf" if fs.exists(b"/etc/locale.conf") else b"/etc/default/locale"
    fs.file(locale, b"LANG=de_DE.UTF-8\n")
    fs.link(b"/etc/localtime", b"/usr/share/zoneinfo/Europe/Berlin")
    fs.file(b"/etc/timezone", b"Europe/Berlin\n")
    fs.file(b"/etc/sudoers.d/alice", b"alice ALL=(ALL) NOPASSWD: /usr/bin/systemctl\n", 0o440)
    fs.file(b"/etc/motd", b"Welcome to Alice's server\n")
    fs.file(b"/usr/local/bin/report", b"#!/bin/sh\necho report\n", 0o755)
    fs.file(b"/usr/local/sbin/become", b"#!/bin/sh\nexit 1\n", 0o4750, "bob")
    fs.file(b"/root/.ssh/authorized_keys", b"ssh-ed25519 AAAA alice@home\n", 0o600)
    os.chmod(fs.path(b"/root/.ssh"), 0o700)
    os.chmod(fs.path(b"/etc/crontab"), 0o640)
    fs.own(b"/etc/rsyslog.conf", "root", "adm")
    fs.time(b"/etc/profile", (START + 5) * nasty.NS + 5)
    fs.acl(b"/etc/hosts", "u::rw- user:alice:rw- g::r-- mask::rw- o::r--")
    fs.xattr(b"/etc/inputrc", "user.origin", b"edited by nobody")
    os.unlink(fs.path(b"/etc/logrotate.d/alternatives"))
    shutil.rmtree(fs.path(b"/etc/terminfo"))
    os.unlink(fs.path(b"/etc/ethertypes"))
    fs.file(b"/etc/ethertypes/now-a-folder", b"file became folder\n")
    shutil.rmtree(fs.path(b"/etc/opt"))
    fs.file(b"/etc/opt", b"folder became file\n")
    shutil.move(os.fsdecode(fs.path(b"/etc/update-motd.d")), os.fsdecode(fs.path(b"/srv/motd")))
    fs.link(b"/etc/update-motd.d", b"/srv/motd")
    os.unlink(fs.path(b"/etc/rmt"))
    fs.file(b"/etc/rmt", b"#!/bin/sh\nlink became file\n", 0o755)


def keep_services_and_spools(box: Box, fs: FixtureFs) -> None:
    """Units enabled, disabled, masked, overridden; crontabs and mail."""
    units = b"/etc/systemd/system"
    fs.file(units + b"/acme.service", b"[Service]\nExecStart=/usr/local/bin/report\n")
    fs.link(units + b"/multi-user.target.wants/acme.service", b"/etc/systemd/system/acme.service")
    fs.link(units + b"/e2scrub_all.timer", b"/dev/null")
    fs.file(units + b"/cron.service.d/override.conf", b"[Service]\nNice=5\n")
    os.unlink(fs.path(units + b"/multi-user.target.wants/rsyslog.service"))
    fs.file(b"/etc/cron.d/report", b"17 4 * * 1 alice /usr/local/bin/report\n")
    box.run(["crontab", "-u", "alice", "-"], input="5 5 * * * /usr/local/bin/report\n")
    box.run(["crontab", "-u", "root", "-"], input="@reboot true\n")
    fs.file(b"/var/mail/alice", b"From bob Wed Jan  1 00:00:00 2025\nSubject: hello\n\nhello\n", 0o660)
    fs.own(b"/var/mail/alice", "alice", "mail")


def serve_pages(fs: FixtureFs) -> None:
    """What the owner of a web server writes; WordPress's part where that is installed."""
    fs.file(b"/var/www/html/shop.html", OWNERS_PAGE, owner="www-data")
    fs.append(b"/var/www/html/index.html", b"<!-- edited -->\n")
    fs.file(b"/srv/shop/index.html", b"<p>shop\n")
    fs.file(b"/etc/apache2/sites-available/shop.conf", VIRTUAL_HOST)
    fs.link(b"/etc/apache2/sites-enabled/shop.conf", b"../sites-available/shop.conf")
    fs.link(b"/etc/apache2/mods-enabled/headers.load", b"../mods-available/headers.load")
    os.unlink(fs.path(b"/etc/apache2/conf-enabled/serve-cgi-bin.conf"))
    content = b"/var/lib/wordpress/wp-content"
    if fs.exists(content):
        for upload in (b"2024/12/flood.jpg", b"2025/01/shop.jpg"):
            fs.file(content + b"/uploads/" + upload, b"\xff\xd8\xff\xe0" + upload * 500, owner="www-data")
        for folder in (b"", b"/2024", b"/2024/12", b"/2025", b"/2025/01"):
            fs.own(content + b"/uploads" + folder, "www-data")
        fs.file(content + b"/plugins/acme/acme.php", b"<?php // Plugin Name: Acme\n", owner="www-data")
        fs.file(b"/etc/wordpress/config-default.php", b"<?php define('DB_NAME', 'wordpress');\n", 0o640)
        fs.own(b"/etc/wordpress/config-default.php", "root", "www-data")


def places(fs: FixtureFs) -> dict[bytes, str]:
    """Where the bulk of the owner's files lies, and whose it is."""
    return PLACES | ({b"/var/www/html/files": "www-data"} if fs.exists(b"/var/www") else {})


def fill(fs: FixtureFs, random: Random, files: int) -> None:
    """Write that many files, most of them small, half text and half incompressible, in folders of about twenty."""
    owners = {place: (fs.uid(who), fs.gid(who)) for place, who in places(fs).items()}
    for place, owner in owners.items():
        fs.folder(place)
        os.chown(fs.path(place), *owner)
        for number in range(files // len(owners)):
            folder = place + b"/%02d/%02d" % (number % 7, number // 140)
            inside = fs.file(folder + b"/%s-%d" % (random.choice(WORDS), number), _content(random))
            os.chown(fs.path(inside), *owner)
            fs.time(inside, random.randrange(START, START + YEAR) * nasty.NS + random.randrange(nasty.NS))


def _content(random: Random) -> bytes:
    size = int(random.lognormvariate(8, 1.6))
    if random.random() < 0.5:
        return random.randbytes(size)
    return b" ".join(random.choices(WORDS, k=size // 6))


def bulk_files(fs: FixtureFs) -> Iterator[bytes]:
    """Paths inside of what `fill` wrote, sorted."""
    for place in sorted(places(fs)):
        for folder, folders, names in os.walk(fs.path(place)):
            folders.sort()
            yield from (os.path.join(folder, name)[len(os.fsencode(fs.root)) :] for name in sorted(names))


def touch_one_percent(box: Box, seed: int = 2) -> int:
    """Edit, extend, remove, add and chmod among the owner's files, one in a hundred in all; returns how many."""
    fs, random = FixtureFs(box.root), Random(seed)
    known = list(bulk_files(fs))
    chosen = sorted(random.sample(known, max(5, len(known) // 100)))
    for number, inside in enumerate(chosen):
        match number % 5:
            case 0 | 1:
                fs.append(inside, b"one more line\n")
            case 2:
                fs.file(inside + b".new", _content(random))
            case 3:
                os.unlink(fs.path(inside))
            case 4:
                os.chmod(fs.path(inside), 0o600)
    return len(chosen)

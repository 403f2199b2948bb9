"""Rules of every profile: paths that are always in scope, and those that are left out. Pure data.

These rules do not cover identity (hostname, hosts, mailname, ssh host keys, machine-id, fstab, network). A backup
includes it where it differs, and the role of the restore decides.
"""

from tklb.diff.rules import Rule
from tklb.profile.left_out import LEFT_OUT, NEVER

__all__ = ["ALWAYS", "NEVER", "OUR_FOLDERS", "RULES"]

# In scope on every machine, whatever its profile includes: nobody knows which programs will keep their data there.
ALWAYS = {
    b"/var/lib": "state of programs",
    b"/var/opt": "state of programs in /opt",
    b"/var/cache/bind": "the working folder of bind, where zones may lie",
}
OUR_FOLDERS = (
    b"/usr/local/share/man/man1",
    b"/usr/local/share/man/man5",
)  # scripts/install makes them if they are missing

INCLUDES = tuple(Rule(True, path) for path in ALWAYS)
RULES = (*INCLUDES, *(Rule(False, path) for path in LEFT_OUT))

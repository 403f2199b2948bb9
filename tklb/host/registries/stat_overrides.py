"""Overrides of owner and mode that dpkg keeps: read them, tell who made them, and add one.

Source: dpkg-statoverride(1); /var/lib/dpkg/statoverride has lines `user group mode path`. An override is the package's
if one of its scripts calls dpkg-statoverride with this path, owner, group and mode. Any other is the owner's.
"""

import re
from dataclasses import replace

from tklb.diff.registries.forms import parse_stat_overrides
from tklb.host.registries.database import ADMIN, has_word, read_file, read_scripts, run_tool
from tklb.host.registries.script_calls import read_plain_text
from tklb.model.registries.decisions import RemovedEntry, StatOverride

_FILE = ADMIN + b"statoverride"
_CALL = b"dpkg-statoverride"


def read_stat_overrides(root: bytes) -> tuple[StatOverride, ...]:
    """Give all overrides, and of each whether a package made it. Sorted."""
    found = parse_stat_overrides(read_file(root, _FILE))
    if not found:
        return ()
    scripts = [read_plain_text(script.text) for script in read_scripts(root) if _CALL in script.text]
    return tuple(replace(one, packaged=any(_is_made_by(text, one) for text in scripts)) for one in found)


def _is_made_by(script: bytes, one: StatOverride) -> bool:
    mode = b"0*%o" % one.mode
    owners = [re.escape(one.user), re.escape(one.group)]
    pattern = b"['\"]?\\s+['\"]?".join([b"", *owners]) + b"['\"]?\\s+['\"]?" + mode + b"\\b"
    return has_word(script, one.path) and re.search(pattern, script) is not None


def add_stat_override(one: StatOverride, root: bytes) -> None:
    """Add an override in place of the one that the path has, and set owner and mode. Raises ProgramFailed."""
    if any(other.path == one.path for other in parse_stat_overrides(read_file(root, _FILE))):
        run_tool(root, ["dpkg-statoverride", "--quiet", "--remove", one.path])
    words: list[str | bytes] = ["--quiet", "--update", "--add", one.user, one.group, f"{one.mode:o}", one.path]
    run_tool(root, ["dpkg-statoverride", *words])


def remove_stat_override(entry: RemovedEntry, root: bytes) -> None:
    """Remove an override of a package; owner and mode of the file stay. Raises ProgramFailed."""
    run_tool(root, ["dpkg-statoverride", "--quiet", "--remove", entry.path])

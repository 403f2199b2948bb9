"""Jobs of at(1): their head names the account by number, and atd(8) refuses a job whose head and owner differ. Pure."""

import re
from collections.abc import Mapping
from hashlib import sha256

from tklb.model.files import FileEntry

AT_JOBS = b"/var/spool/cron/atjobs"
_HEAD = re.compile(rb"\A(#! ?/bin/sh\n# atrun uid=)([0-9]{1,10})( gid=)([0-9]{1,10})(?=\n)")


def rewrite_at_job(
    entry: FileEntry, jobs: Mapping[bytes, bytes], gids: Mapping[int, int]
) -> tuple[FileEntry, bytes | None]:
    """Give a job with the numbers of its account here, and its new content; None if the stored one is right.

    `entry` has the mapped owner already. `jobs` are the stored contents, by path.
    """
    stored, uid = jobs.get(entry.path), entry.uid
    head = _HEAD.match(stored) if stored and entry.kind == "file" else None
    if stored is None or head is None or uid is None:
        return entry, None
    start, _, middle, group = head.groups()
    content = b"%b%d%b%d" % (start, uid, middle, gids.get(int(group), int(group))) + stored[head.end() :]
    if content == stored:
        return entry, None
    return entry._replace(sha256=sha256(content).hexdigest(), size=len(content)), content

"""The release of a root file system. Reads os-release(5), changes nothing."""

import os
import re

from tklb.base.fs import read_existing

_LINE = re.compile(r"""^(ID|VERSION_ID)=["']?([A-Za-z0-9._-]*)["']?$""", re.MULTILINE)


def read_os_release(root: bytes = b"/") -> str:
    """Give `ID-VERSION_ID`, such as debian-12; `ID` if the release has no number; "" if it is unknown."""
    for name in (b"etc/os-release", b"usr/lib/os-release"):
        if text := read_existing(os.path.join(root, name)).decode("utf-8", "replace"):
            fields = dict(_LINE.findall(text))
            return "-".join(filter(None, (fields.get("ID"), fields.get("VERSION_ID"))))
    return ""

"""The address of a target, parsed."""

from tklb.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class TargetUrl:
    """`text` is the address without credentials. Fields that a kind of target does not use are empty.

    file: `path` absolute. s3: `endpoint` ("" as configured), `bucket`, `path` the prefix without slashes around it.
    sftp: `user` ("" as SSH decides), `host`, `port` (0: 22), `path` absolute or relative to the home. Others: the text.
    """

    scheme: str  # lower case; file, s3, sftp, or whatever duplicity has a backend for
    text: str
    path: str = ""
    user: str = ""
    host: str = ""
    port: int = 0
    bucket: str = ""
    endpoint: str = ""

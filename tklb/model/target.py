"""The address of a target, parsed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TargetUrl:
    """`text` is the address as people may see it. What a kind of target has no use for is empty.

    file: `path` absolute. s3: `endpoint` ("" as configured), `bucket`, `path` the prefix, no slashes around it. sftp:
    `user` ("" as SSH decides), `host`, `port` (0: 22), `path` absolute or relative to the home. Others: the text.
    """

    scheme: str  # file s3 sftp other
    text: str
    path: str = ""
    user: str = ""
    host: str = ""
    port: int = 0
    bucket: str = ""
    endpoint: str = ""

"""`rclone serve webdav` as a `with`: a folder of this machine over HTTP, for one user with a password.

Takes a folder, gives where it listens; touches that folder and the process it starts.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab.box import Box

RCLONE = Path(sys.executable).with_name("rclone")
USER = "tester"


@dataclass
class WebDav:
    """`folder` gets what is stored, `log` what the server says. With a box it listens in the box's network."""

    folder: Path
    log: Path
    password: str = "open sesame: ä%&"
    box: Box | None = None
    port: int = field(init=False, default=0)
    _server: subprocess.Popen[Any] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def address(self, folder: str) -> str:
        return f"webdav://{USER}@127.0.0.1:{self.port}/{folder}"

    def start(self) -> None:
        """Start it, where it was if it was started before, and wait until it listens."""
        self.folder.mkdir(exist_ok=True)
        environment = {**os.environ, "RCLONE_USER": USER, "RCLONE_PASS": self.password, "RCLONE_CONFIG": "/dev/null"}
        inside = ["nsenter", f"--net=/proc/{self.box.pid}/ns/net", "--"] if self.box else []
        command = [*inside, RCLONE, "serve", "webdav", f"--addr=127.0.0.1:{self.port}", "--", self.folder]
        with self.log.open("wb") as log:
            self._server = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        for _ in range(400):
            found = re.search(r"http://127\.0\.0\.1:([0-9]+)/", self.log.read_text())
            if found:
                self.port = int(found[1])
                return
            if self._server.poll() is not None:
                break
            time.sleep(0.05)
        raise OSError(self.log.read_text())

    def stop(self) -> None:
        if self._server:
            self._server.kill()
            self._server.wait()
            self._server = None

    @property
    def pid(self) -> int:
        assert self._server
        return self._server.pid

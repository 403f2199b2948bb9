"""Run a piece of source for each line of stdin, in a process that is forked; answer each by a line.

A program of its own, see `warm`. A line is `[source, stdin, values]` in JSON, its answer `[status, stdout, stderr,
answer]`. A source finds `values` and may set `answer`. It touches what it touches; this program imports what sources
have imported, so that the next one need not.
"""

import gc
import importlib
import json
import os
import sys
import traceback
from contextlib import suppress


def main() -> None:
    for line in sys.stdin:
        source, given, values = json.loads(line)
        files = [os.memfd_create(name) for name in ("stdout", "stderr", "answer")]
        stdin, feed = os.pipe()
        os.write(feed, given.encode("utf-8", "surrogateescape"))  # as much as a pipe holds
        os.close(feed)
        gc.freeze()
        child = os.fork()
        if not child:
            run(source, values, stdin, *files)
        os.close(stdin)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        *outputs, told = map(read, files)
        answer, modules = json.loads(told) if told else (None, [])
        for name in modules:
            with suppress(Exception):
                importlib.import_module(name)
        print(json.dumps([status, *outputs, answer]), flush=True)


def run(source: str, values: dict[str, object], stdin: int, stdout: int, stderr: int, answer: int) -> None:
    """The child: it never comes back."""
    for number, file in enumerate((stdin, stdout, stderr)):
        os.dup2(file, number)
    known = set(sys.modules)
    space: dict[str, object] = {"values": values}
    status = 0
    try:
        exec(compile(source, "inside", "exec"), space)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else bool(error.code)
    except BaseException:  # noqa: BLE001  # whatever it is, the parent tells
        traceback.print_exc()
        status = 1
    os.write(answer, json.dumps([space.get("answer"), [*sys.modules.keys() - known]]).encode())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def read(file: int) -> str:
    with open(file, encoding="utf-8", errors="surrogateescape") as stream:
        stream.seek(0)
        return stream.read()


main()

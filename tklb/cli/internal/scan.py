"""tklb internal scan."""

import os
import sys

import click

from tklb.cli.options import Output, example, report_skipped, root_option, shared_options


@click.command(epilog=example("tklb internal scan --digest /etc /srv", "tklb internal scan --root /mnt/clean /"))
@root_option
@click.option("--digest", is_flag=True, help="Read every file and give its SHA-256.")
@click.argument("path", nargs=-1, required=True, type=click.Path(path_type=bytes))
@shared_options
@click.pass_obj
def scan(output: Output, root: bytes, digest: bool, path: tuple[bytes, ...]) -> int:
    """Write an mtree(5) v2.0 listing of the PATHs inside the root to stdout.

    A PATH that does not begin with / is relative to the current folder, or to the root if --root is given.
    """
    from tklb.diff.listing import format_listing
    from tklb.diff.rules import Rule, Rules
    from tklb.host.files.scan_records import scan_records
    from tklb.model.report import Skipped, SkippedItems

    start = os.getcwdb() if os.path.samefile(root, b"/") else b"/"
    tops = [b"/" + os.path.normpath(os.path.join(start, name)).lstrip(b"/") for name in path]
    absent = (name for name in tops if not os.path.lexists(root + name))
    skipped = SkippedItems(Skipped(name, "there is no such path") for name in absent)
    rules = Rules(tuple(Rule(True, name, is_literal=True) for name in tops))
    sys.stdout.buffer.writelines(format_listing(scan_records(root, rules, digest=digest, skipped=skipped)))
    sys.stdout.buffer.flush()
    return report_skipped(output, skipped)

"""tklb scope."""

import click

from tklb.cli.options import Output, example, need_root, now, read_paths, report_outside, shared_options


@click.command(epilog=example("tklb scope", "tklb scope --json -- /data -/data/scratch"))
@click.argument("override", nargs=-1)
@shared_options
@click.pass_obj
def scope(output: Output, override: tuple[str, ...]) -> int:
    """Show what is in scope, what is left out and what lies outside, each with the reason; changes nothing.

    The exit status is 3 if something of the owner's lies outside and no override includes or excludes it. An OVERRIDE
    holds for this run; see tklb-overrides(5).
    """
    need_root()
    from tklb.cli.output.scope import scope_json, scope_lines
    from tklb.commands.scope import explain_scope
    from tklb.session import open_session

    report = explain_scope(open_session(read_paths(), now), override)
    output.value(scope_json(report), scope_lines(report))
    return report_outside(output, report.outside)

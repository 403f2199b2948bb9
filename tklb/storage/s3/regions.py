"""Which of several regions a target is in: the configured one, or the nearest, measured once and remembered.

Takes an address and the configuration with their `{region}`; gives both with a region in its place. Touches the file
that remembers choices. A chain is in one region, so tklb measures a target only once.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from tklb.base.concurrency import Stop, map_side_by_side
from tklb.base.fs import private_folder
from tklb.base.json import write_state
from tklb.config.schema import S3Config
from tklb.errors import ConfigInvalid, TargetUnreachable, TklbError
from tklb.model.target import TargetUrl

NEAREST = "nearest"
PLACE = "{region}"
_REGION = re.compile(r"(?![0-9]+$)[A-Za-z0-9][A-Za-z0-9-]{0,62}")
log = logging.getLogger(__name__)

# Seconds that the service at an address takes for an answer; raises TargetUnreachable.
Measure = Callable[[TargetUrl, S3Config], float]


def choose_region(
    address: TargetUrl, config: S3Config, choices: Path | None, measure: Measure
) -> tuple[TargetUrl, S3Config]:
    """Address and configuration of one region. `choices` is a file of JSON, address to region, None to keep nothing.

    Raises ConfigInvalid, and TargetUnreachable where no candidate answers.
    """
    if config.region != NEAREST:
        if PLACE in address.text + config.endpoint and not config.region:
            raise ConfigInvalid(file="tklb.toml", reason=f"`{PLACE}` stands for `s3.region`, which is not set")
        return fill_region(address, config, config.region)
    for name in config.candidates:
        if not _REGION.fullmatch(name):
            raise ConfigInvalid(file="tklb.toml", reason=f"`{name}` in `s3.candidates` is no name of a region")
    if not config.candidates:
        raise ConfigInvalid(file="tklb.toml", reason="with the nearest region, `s3.candidates` must name some")
    kept = _read(choices)
    region = kept.get(address.text, "")
    if region not in config.candidates:  # none yet, or one that the owner has taken away
        region = _nearest(address, config, measure)
        if choices is not None:
            private_folder(choices.parent)
            write_state(choices, dict(sorted({**kept, address.text: region}.items())))
    return fill_region(address, config, region)


def fill_region(address: TargetUrl, config: S3Config, region: str) -> tuple[TargetUrl, S3Config]:
    """The same address and configuration with `region` in place of `{region}`."""
    parts = ("text", "path", "bucket", "endpoint")
    fields = {part: getattr(address, part).replace(PLACE, region) for part in parts}
    return replace(address, **fields), replace(config, region=region, endpoint=config.endpoint.replace(PLACE, region))


def _nearest(address: TargetUrl, config: S3Config, measure: Measure) -> str:
    """The candidate that answers fastest; of equals, the first in the list."""

    def ask(name: str, _stop: Stop) -> float | TklbError:
        try:
            return measure(*fill_region(address, config, name))
        except TklbError as exc:
            return exc

    answers = dict(
        zip(config.candidates, map_side_by_side(ask, config.candidates, len(config.candidates)), strict=True)
    )
    taken = {name: answer for name, answer in answers.items() if not isinstance(answer, TklbError)}
    failures = {name: answer for name, answer in answers.items() if isinstance(answer, TklbError)}
    for name, failure in failures.items():
        log.warning("region %s is left out: %s", name, failure)
    if not taken:
        silent = [f"{name} ({failure.facts.get('reason')})" for name, failure in failures.items()]
        reason = f"none of the candidates answers: {', '.join(silent)}"
        raise TargetUnreachable(address=address.text, reason=reason, is_transient=True)
    nearest = min(taken, key=lambda name: taken[name])
    log.info("nearest region: %s of %s", nearest, ", ".join(f"{n} {taken[n] * 1000:.0f} ms" for n in taken))
    return nearest


def _read(choices: Path | None) -> Mapping[str, str]:
    if choices is None or not choices.exists():
        return {}
    try:
        kept = json.loads(choices.read_bytes())
    except (ValueError, RecursionError) as exc:
        raise _unreadable(choices) from exc
    if not isinstance(kept, dict) or not all(isinstance(value, str) for value in kept.values()):
        raise _unreadable(choices)
    return kept


def _unreadable(choices: Path) -> ConfigInvalid:
    return ConfigInvalid(file=str(choices), reason="holds no regions; without it, the nearest is measured anew")

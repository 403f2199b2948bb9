"""A fingerprint of all definitions of a database: another one means that somebody changed a definition. Pure."""

__all__ = ["FINGERPRINT"]

_DEFINITIONS = tuple(
    "attrdef attribute cast constraint default_acl event_trigger extension foreign_server index inherits language"  # noqa: SIM905
    " namespace operator policy proc publication rewrite statistic_ext trigger type user_mapping".split()
)
# of a relation all but what says where its rows are, and how many
_RELATION = (
    "(to_jsonb(c) - '{relfilenode,relpages,reltuples,relallvisible,relallfrozen,relfrozenxid,relminmxid}'::text[])"
)
FINGERPRINT = "SELECT md5(string_agg(part, ' ')) FROM (" + " UNION ALL ".join(
    f"SELECT '{name} ' || count(*) || ' ' || coalesce(sum(hashtext({what}::text)::bigint), 0) AS part FROM pg_{name} c"
    for name, what in [*((name, "(xmin, ctid)") for name in _DEFINITIONS), ("class", _RELATION)]
) + ") parts"  # fmt: skip

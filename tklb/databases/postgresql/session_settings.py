"""The settings of every session of ours, whatever the server, the database or the role sets. Pure.

Source: "Server Configuration" of PostgreSQL's manual; pg_dump sets much the same.
"""

__all__ = ["LIMITS_TRANSACTIONS", "format_options"]

_SETTINGS = {
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "3",
    "standard_conforming_strings": "on",
    "search_path": "",
    "row_security": "off",
    "synchronize_seqscans": "off",
    "quote_all_identifiers": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "session_replication_role": "origin",
    "check_function_bodies": "off",
    "array_nulls": "on",
    "work_mem": "16MB",
    "temp_file_limit": "-1",
    "jit": "off",  # it takes longer than most answers
    "client_min_messages": "warning",
    "xmloption": "content",
    "role": "none",
    "lc_messages": "C",
    # a password's hash must not reach the server's log, be it in a statement that fails
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_error_statement": "panic",
    "log_duration": "off",
    "log_parser_stats": "off",
}
_ADMINISTRATORS_ONLY = (
    "session_replication_role",
    "log_",
    "lc_messages",
    "temp_file_limit",
)  # settings that nobody else may change
LIMITS_TRANSACTIONS = 17  # the first version that does: an older one refuses such a setting


def format_options(lock_seconds: int, major: int, *, is_administrator: bool = True) -> str:
    """All settings as PGOPTIONS has them: stronger than those of a database or role, and from the first moment on."""
    own = _ADMINISTRATORS_ONLY if not is_administrator else ()
    settings = {name: value for name, value in _SETTINGS.items() if not name.startswith(own)}
    settings["lock_timeout"] = f"{lock_seconds}s"
    if major >= LIMITS_TRANSACTIONS:
        settings["transaction_timeout"] = "0"
    return " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in settings.items())

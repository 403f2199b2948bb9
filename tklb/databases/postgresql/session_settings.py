"""The settings of our sessions, and of those of client programs, as words of libpq and as statements.

They are stronger than those of a database or a role. What limits a session, or runs code in it, is set before it
begins; the rest inside: an extension may read what a session would be reset to (postgis_topology does). Gives values.
"""

from collections.abc import Mapping

from tklb.databases.postgresql import MONETARY, Login

__all__ = ["format_login", "format_options", "format_settings", "join_words", "list_words"]

NAME = "tklb"
# a table that became a view after it was listed must not run the view's functions (CVE-2024-7348)
ONLY_TABLES = (
    "SELECT set_config(name, 'view, foreign-table', false) FROM (SELECT 'restrict_nonsystem_relation_kind' AS name) one"
    " WHERE current_setting(name, true) IS NOT NULL"  # pg_settings would render all settings for this one
)
LIMITS_TRANSACTIONS = 17  # the first version that has such a limit, and a switch for event triggers
_AT_START = {
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "session_replication_role": "origin",
    "session_preload_libraries": "",  # one that is missing refuses every session
    "local_preload_libraries": "",
    "client_min_messages": "warning",
    "lc_messages": "C",
    "role": "none",
    # a password's hash must not reach the server's log, be it in a statement that fails
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_error_statement": "panic",
    "log_duration": "off",
    "log_parser_stats": "off",
    "pgaudit.log": "none",  # it would log rows; and PostGIS refuses to be installed while it logs all
}
_INSIDE = {
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
    "check_function_bodies": "off",
    "array_nulls": "on",
    "work_mem": "16MB",
    "temp_file_limit": "-1",
    "jit": "off",  # it takes longer than most answers
    "xmloption": "content",
    "lc_monetary": MONETARY,
}
_ADMINISTRATORS_ONLY = (
    "session_",
    "log_",
    "lc_messages",
    "temp_file_limit",
    "event_triggers",
    "pgaudit.",
)  # settings that nobody else may change


def format_settings(login: Login) -> str:
    """The settings of a session as statements."""
    return "; ".join(f"SET {name} = '{value}'" for name, value in _list_inside(login).items())


def format_options(login: Login, major: int, *, is_administrator: bool = True, has_all: bool = True) -> str:
    """Settings as PGOPTIONS has them; all of them, or those that must be there from the first moment on."""
    settings = {**_AT_START, **(_list_inside(login) if has_all else {}), "lock_timeout": f"{login.lock_seconds}s"}
    if major >= LIMITS_TRANSACTIONS:
        settings |= {"transaction_timeout": "0", "event_triggers": "off"}
    if not is_administrator:
        settings = {name: value for name, value in settings.items() if not name.startswith(_ADMINISTRATORS_ONLY)}
    return " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in settings.items())


def _list_inside(login: Login) -> dict[str, str]:
    return {name: value for name, value in _INSIDE.items() if login.monetary or name != "lc_monetary"}


def format_login(login: Login, database: str, major: int) -> str:
    """A connection string for client programs; no service file can change what it says.

    `major` is the server's version, 0 where it is not known yet.
    """
    return join_words(list_words(login.inside, database, format_options(login, major)))


def list_words(login: Login, database: str, options: str) -> dict[str, str]:
    """Where and how to connect, in libpq's words."""
    words = {
        **login.list_keywords(),
        "dbname": database,
        "options": options,
        "application_name": NAME,
        "connect_timeout": "30",
    }
    return words if login.is_elsewhere else {**words, "gssencmode": "disable"}


def join_words(words: Mapping[str, str]) -> str:
    """The words as a connection string."""
    return " ".join(f"{name}={_quote_word(value)}" for name, value in words.items())


def _quote_word(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"

"""SQL stands in `.sql` files, is all used, and is never put together from pieces."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from conveyor.store.portable import TABLES
from conveyor.store.queries import load_statements
from house.source import SRC, imported, modules

DIALECTS = sorted(path.name for path in (SRC / "store" / "sql").iterdir() if path.is_dir())
# Runs its schema, one file, between BEGIN and COMMIT.
PUTS_TOGETHER = {"apps/tables.py"}
VERBS = ("row", "rows", "run", "run_many")
STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|CREATE|DROP|ALTER|REPLACE)\b[^`]*\s", re.IGNORECASE)

# These speak before there is a schema to have statements of.
SPEAKS_SQL = {
    "src/conveyor/store/sqlite/opening.py",
    # This one reads the migrations: which indexes they make.
    "src/conveyor/store/migrate.py",
}
# Called by the names of the tables that are carried.
CARRIED = {table.export for table in TABLES} | {table.load for table in TABLES}

# What one dialect says otherwise than the other, and why.
SQLITE_ALONE = {
    # Its clock is an anchor in the file, also for whoever asks from outside who lives.
    "read_anchor", "write_anchor", "count_live_owners",
    # One writer: numbers come from a row, inserts one by one, queues when first asked for.
    "read_store", "write_last_seq", "next_owner", "insert_message", "read_queue",
    "read_queue_of_lane", "list_queues", "find_renamed", "put_receipt",
    # Nobody else writes between a SELECT and the statement after it.
    "lease_range", "leave_range", "insert_lease", "has_suspects", "next_ready_at", "purged_ready", "read_bodies",
    # What costs nothing one by one, since there is no round trip.
    "place_keyed", "move_shelf", "head_of_key", "first_of_key", "count_leased_of_key", "blocked_of_key", "has_blocked", "keys_of", "put_window", "write_cost",
    "call_key", "is_in_line", "offer_of_key", "offered_head", "next_of_key",
    # PostgreSQL has these still to come: keys of ended messages apart.
    "mark_uses_dedupe", "mark_dedupe_anew", "dedupe_keys_of",
    # Jobs one by one; by arrays there.
    "read_job", "read_job_message", "read_report", "date_job",
    # And members of groups.
    "insert_node", "end_node", "mark_node", "drop_node_draft",
    # Messages that end in one go: there what ends them says whose they were.
    "drop_messages",
    # The user's transaction takes the lock that all writers take, and then writes as they do.
    "take_write_lock",
    # What is carried goes in by INSERT, and by COPY there.
    *(table.load for table in TABLES),
}  # fmt: skip
POSTGRES_ALONE = {
    # A schema is made and found by name.
    "has_schema", "create_schema", "use_schema", "lock_migrations", "knows_migrations", "create_migrations",
    "applied_migrations", "note_migration", "insert_store",
    # Many write at once: what they lock, and how a transaction begins.
    "begin", "relax", "share_catalog", "hold_catalog", "lock_lane", "lock_sweep", "lock_dedupe", "lock_schedule",
    "lock_owner", "lock_alarm", "lock_groups", "lock_notices", "held_by_owner", "lock_trail", "write_trail",
    # A server may follow another one, be crowded, or stand behind a pooler.
    "find_standby", "read_session", "bound_session", "take_time", "find_crowd",
    "lanes_of_leases", "lanes_of_owner", "read_head", "read_queues", "fold_counters", "notify",
    # Whoever looks after a store begins and ends its transactions by statements; tables can change their schema.
    "begin_snapshot", "begin_alone", "wait_little", "set_aside", "write_numbers", "count_living_owners",
    # A server has more to tell than a file.
    "read_server", "read_clock", "list_holders", "list_tables", "list_indexes", "sum_backlog",
    # A round trip costs more than a statement: several in one.
    "insert_messages", "claim_ready", "lease_taken", "look_ahead", "ack_leases", "release_leases", "read_lanes", "lease_judged",
    "block", "unblock", "heads_of_keys", "blocked_of_keys", "key_states", "put_windows", "write_costs",
    "call_keys", "who_is_in_line", "offers_of_keys", "offered_heads", "next_of_keys",
    "append_plain", "claim_plain", "ack_plain", "ack_jobs", "read_jobs", "read_job_messages",
    "hold_leases", "beat_many", "read_reports", "date_jobs",
    "insert_nodes", "end_nodes", "mark_nodes", "drop_node_drafts", "groups_of",
    # With its dedupe key.
    "delete_message",
    # Old versions of rows stay where others may still see them.
    "earliest_ready", "jobs_over",
    # The user's transaction may last, and holds nothing that others wait for: it writes into an outbox.
    "knows_outbox", "look_from_tx", "put_outbox", "depth_from_tx", "dedupe_from_tx", "ack_from_tx", "read_store_id",
    "is_anything_sent", "is_anything_acked", "read_outbox_depth", "lock_outbox", "try_outbox", "take_outbox",
    "acked_leases", "read_lane_unless_acked", "hold_outbox", "may_clear",
}  # fmt: skip
# With the receipt, and by arrays; `uses_dedupe`, as above; the time is the server's.
OTHER_PARAMETERS = {
    "add_counts", "write_queue", "write_heading", "put_note",
    # By arrays.
    "add_keyed", "drop_keyed", "join_line", "move_in_line", "leave_line",
    # The sweep's, which tells of members.
    "delete_messages",
    # What a sweep has found in one walk.
    "sweep_report_lines", "sweep_reports", "sweep_attempts", "sweep_steps", "sweep_events", "sweep_jobs",
    # From where the last one ended.
    "sweep_dedupe",
}  # fmt: skip
PARAMETER = re.compile(r"(?<![:\w]):([a-z]\w*)")


def _store_modules(dialect: str) -> list[ast.Module]:
    prefix = f"src/conveyor/store/{dialect}/"
    return [module for path, module in modules().items() if path.startswith(prefix)]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_statement_is_used(dialect: str) -> None:
    spoken = {
        node.value
        for module in _store_modules(dialect)
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert not load_statements(dialect).keys() - spoken - CARRIED


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_used_statement_is_there(dialect: str) -> None:
    used = {name for module in _store_modules(dialect) for name in _used(module)}
    assert used, "the way of calling statements has changed: this test must follow"
    assert not used - load_statements(dialect).keys()


def _used(module: ast.Module) -> Iterator[str]:
    """`tx.rows("name", ...)` and `SQL["name"]`."""
    for node in ast.walk(module):
        first: ast.expr | None = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in VERBS:
            first = node.args[0] if node.args else None
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "SQL":
            first = node.slice
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield first.value


def test_no_statement_is_put_together_from_pieces() -> None:
    found = [
        f"{path}:{node.lineno}"
        for path, module in modules().items()
        if path not in PUTS_TOGETHER
        for node in ast.walk(module)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("execute", "executemany", "executescript")
        and node.args
        and isinstance(node.args[0], (ast.JoinedStr, ast.BinOp))
        and not _is_pragma(node.args[0])
    ]
    assert not found


def _is_pragma(text: ast.expr) -> bool:
    """A pragma takes no bound values."""
    first = text.values[0] if isinstance(text, ast.JoinedStr) and text.values else None
    return isinstance(first, ast.Constant) and str(first.value).startswith("PRAGMA ")


def test_no_python_file_speaks_sql() -> None:
    found = [
        f"{path}:{node.lineno}"
        for path, module in modules().items()
        if path.startswith("src/") and path not in SPEAKS_SQL
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and STATEMENT.match(node.value)
        if node.value.isupper() or re.search(r"\b(FROM|INTO|SET|TABLE|VALUES)\b", node.value)
    ]
    assert not found


@pytest.mark.parametrize("path", modules())
def test_nothing_imports_a_second_sqlite_library(path: str) -> None:
    assert "sqlite3" not in imported(modules()[path])


def test_both_dialects_have_the_same_statements_but_for_those_listed() -> None:
    sqlite, postgres = load_statements("sqlite").keys(), load_statements("postgres").keys()
    assert sqlite - postgres == SQLITE_ALONE
    assert postgres - sqlite == POSTGRES_ALONE


def test_statements_of_one_name_take_the_same_parameters_in_the_same_order() -> None:
    sqlite, postgres = load_statements("sqlite"), load_statements("postgres")
    found = {
        name for name in sqlite.keys() & postgres.keys() if _parameters(sqlite[name]) != _parameters(postgres[name])
    }
    assert found == OTHER_PARAMETERS


def _parameters(text: str) -> list[str]:
    return list(dict.fromkeys(PARAMETER.findall(text)))

"""What holds back vacuum or the write-ahead log, and standbys that are behind."""

from __future__ import annotations

from collections.abc import Iterator

from ..looking import Ask, printable, size, span
from ..queries import queries
from .findings import ADVICE, ATTENTION, OK, Finding, Limits


def holders(ask: Ask, limits: Limits) -> Iterator[Finding]:
    """What holds vacuum back, and slots that hold back the write-ahead log."""
    params = {"longest": limits.longest, "transactions": limits.transactions}
    for kind, name, age, about in ask(queries.doctor_holders, params):
        name, about = printable(name), printable(about)
        if kind == "transaction":
            yield Finding(
                "snapshots",
                ATTENTION,
                f"process {name} has a transaction open for {span(age)} ({about})",
                f"let it end, or SELECT pg_terminate_backend({name})",
            )
        elif kind == "prepared":
            yield Finding(
                "snapshots",
                ATTENTION,
                f"the transaction {name!r} was prepared {span(age)} ago ({about})",
                f"COMMIT PREPARED '{name}' or ROLLBACK PREPARED '{name}'",
            )
        elif kind == "standby":
            yield Finding(
                "snapshots",
                ATTENTION,
                f"the standby {name} reports a snapshot of {about}",
                "end its long queries, or set hot_standby_feedback = off there",
            )
        else:
            yield Finding(
                "slots",
                ATTENTION,
                f"the replication slot {name} keeps log or dead rows ({about})",
                f"bring its reader back, or SELECT pg_drop_replication_slot('{name}')",
            )


def replication(ask: Ask, limits: Limits) -> Iterator[Finding]:
    """How far standbys are behind, from where replays may be read; nothing where there are none."""
    for name, behind, late, state in ask(queries.doctor_standbys, {}):
        who = "this standby" if name is None else f"the standby {printable(name)}"
        said = f"{who} is {size(behind)} behind"
        if late is not None:
            said += f", {span(late)} at its last word"
        if state == "paused":
            yield Finding(
                "replication",
                ATTENTION,
                f"{said}: its replay is paused",
                "SELECT pg_wal_replay_resume()",
            )
        elif behind > limits.behind:
            yield Finding(
                "replication",
                ATTENTION,
                said,
                "look there for a paused replay, a long query (max_standby_streaming_delay) or a "
                "slow disk or network; replays are read from the primary meanwhile",
            )
        elif state == "none":
            yield Finding(
                "replication",
                ADVICE,
                f"{who} is not connected to its primary",
                "see primary_conninfo and its log, unless it is fed from an archive",
            )
        else:
            yield Finding("replication", OK, f"{said} ({state})")

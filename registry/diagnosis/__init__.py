"""What `doctor` looks for, and the remedy for each thing that it finds."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from ..looking import look
from ..partitioning import layouts
from . import holding, server, tables, upkeep
from .findings import ADVICE, ATTENTION, OK, Diagnosis, Finding, Limits

__all__ = ["ADVICE", "ATTENTION", "Finding", "Limits", "diagnose"]


def diagnose(connection: Connection[Any], limits: Limits) -> Diagnosis:
    """Looks at everything once and changes nothing.

    `connection` is in autocommit mode. Of a database whose schema does not fit only the server is
    looked at. Raises `SchemaMismatch` when the role may not read what it takes.
    """
    clock = server.clock(connection, limits)
    misfit = tables.misfit(connection)
    with look(connection) as ask:
        holders = list(holding.holders(ask, limits))
        findings = [misfit or Finding("migrations", OK, "all are applied")]
        if misfit is None:
            events = layouts.events(connection)
            findings += tables.indexes(ask, events)
            findings += tables.partitions(connection, events, limits)
            findings += upkeep.cleanup(ask, limits)
            findings += upkeep.laggards(ask, limits)
            findings += tables.vacuum(ask, limits, held=bool(holders))
        findings += holders or [Finding("snapshots", OK, "nothing holds vacuum back")]
        findings += holding.replication(ask, limits)
        findings += server.standing(ask, limits)
    return Diagnosis((*findings, clock))

"""The hand-written queries of `sql/`, read once: one attribute a file."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from attrs import AttrsInstance, fields, frozen

from .resources import folder

T = TypeVar("T", bound=AttrsInstance)


@frozen
class Queries:
    """Each attribute is the text of the file of that name."""

    acknowledge: bytes
    acknowledge_batch: bytes
    add_dictionary: bytes
    backend: bytes
    claim_aged_games: bytes
    cleanup_due: bytes
    cleanup_event_ids: bytes
    cleanup_expired_sessions: bytes
    cleanup_receipts: bytes
    clock: bytes
    configure: bytes
    doctor_clock: bytes
    doctor_holders: bytes
    doctor_indexes: bytes
    doctor_laggards: bytes
    doctor_server: bytes
    doctor_standbys: bytes
    doctor_tables: bytes
    doctor_upkeep: bytes
    end_game: bytes
    fetch_dictionaries: bytes
    fetch_events_batch: bytes
    fetch_events_since: bytes
    fetch_events_standby: bytes
    find_session: bytes
    get_session: bytes
    grant: bytes
    heartbeat: bytes
    heartbeat_batch: bytes
    heartbeat_many: bytes
    import_check: bytes
    import_games: bytes
    import_heads: bytes
    import_lock: bytes
    import_pending_sessions: bytes
    import_sessions: bytes
    import_standing: bytes
    inspect_events: bytes
    inspect_game: bytes
    inspect_log: bytes
    inspect_sessions: bytes
    issue_resume_token: bytes
    list_sessions: bytes
    lock_cleanup: bytes
    lock_game: bytes
    lock_issue: bytes
    newest_dictionary: bytes
    prune_events: bytes
    raise_floors: bytes
    record_batch: bytes
    record_batch_checked: bytes
    record_event: bytes
    record_event_checked: bytes
    record_events: bytes
    renew_epochs: bytes
    resume: bytes
    resume_batch: bytes
    revoke_session: bytes
    sample_events: bytes
    settle_lineage: bytes
    settle_statement: bytes
    stale_sessions: bytes
    standing: bytes
    sweep_events: bytes
    tally: bytes
    top_games: bytes
    top_server: bytes
    top_sessions: bytes
    validate_resume_token: bytes


def load(kind: type[T], subfolder: str = "") -> T:
    """The files of `sql/`, or of a folder in it, as the attributes of a class such as `Queries`."""
    path = folder("sql") / subfolder
    names = [f.name for f in fields(kind)]
    return kind(**{name: _read(Path(subfolder, name), path / f"{name}.sql") for name in names})


def _read(name: Path, path: Path) -> bytes:
    """The statement without its comments, and its name, for whoever watches the server."""
    lines = path.read_text(encoding="utf-8").splitlines()
    code = [line for line in lines if not line.lstrip().startswith("--")]
    return f"/* registry.{'.'.join(name.parts)} */ {chr(10).join(code)}".encode()


queries = load(Queries)

"""What a diagnosis is made of."""

from __future__ import annotations

from typing import Final

from attrs import frozen

OK: Final = "ok"
ADVICE: Final = "advice"
ATTENTION: Final = "attention"


@frozen(kw_only=True)
class Limits:
    """From where on something needs attention. Times are in seconds."""

    retention: float = 86_400.0
    """`RegistryConfig.replay_retention` of the servers."""
    grace: float = 3_600.0
    """How much later the cleanup may come."""
    longest: float = 60.0
    """How long a transaction may be open."""
    transactions: int = 1_000_000
    """How many transactions a slot or a standby may hold vacuum back."""
    lag: int = 10_000
    """Events that a player may lack."""
    dead: int = 10_000
    """Dead rows of a table, above a fifth of those that live."""
    connections: int = 10
    """Connections that should be left."""
    behind: int = 64 * 1024 * 1024
    """Bytes of the write-ahead log that a standby may be behind."""
    skew: float = 2.0
    """Between this machine's clock and the server's."""


@frozen
class Finding:
    """One thing that was looked at."""

    check: str
    level: str
    """`OK`, `ADVICE` (worth a thought) or `ATTENTION`."""
    said: str
    remedy: str | None = None
    """What to do, in a line."""


@frozen
class Diagnosis:
    """All that was looked at."""

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing needs attention."""
        return all(finding.level != ATTENTION for finding in self.findings)

"""What time leaves behind, cleaned up."""

from __future__ import annotations

from collections.abc import Callable

from . import arguments
from .cleaning import Cleaning, total
from .core import Core
from .model import Cleanup
from .queries import queries
from .storage import TrainedDictionary
from .zstd import SIZES


class Upkeep(Core):
    """The part of the registry that forgets."""

    def cleanup_expired_sessions(self, *, batch_size: int | None = None) -> Cleanup:
        """Deletes what has had its time, until nothing of it is left.

        Sessions that have expired; events past `config.replay_retention`, acknowledged or
        not; event ids as old; and games with no event, no session and no append within the
        retention. Call it now and then, from as many processes as you like. Where events are
        partitioned by time and the role owns the tables, it drops whole partitions instead, when
        all of one is past the retention, and adds those to come.

        Args:
            batch_size: most rows deleted by one statement; `config.batch_size` if None.

        Returns:
            How many sessions, events and games this call deleted; of a partition that it dropped,
            about how many events that had, by the server's statistics.

        Raises:
            InvalidArgument: the batch size is no whole number above 0.
            RegistryUnavailable: the database did not answer in time; what was cleaned up
                before stays so. Safe to retry.

        Concurrency: rows that anybody else holds are passed over, and nothing waits while it
        deletes, but `end_game` for one batch. Before that it raises the floors of some games at
        a time over their old events: an append to one of these waits until that is committed.
        A few round trips, and more for each further batch.
        """
        return total(self._cleaning(batch_size).batches())

    def _cleaning(
        self, batch_size: int | None, pause: Callable[[float], object] | None = None
    ) -> Cleaning:
        batch = (
            self.config.batch_size
            if batch_size is None
            else arguments.whole("batch_size", batch_size, 1, 2**31 - 1)
        )
        return Cleaning(self._database, self.config, batch, pause)

    def renew_epochs(self) -> None:
        """Gives every game's log a new epoch, so that no client goes on from what it knew.

        For the operator, after the database was put back to an older state by a snapshot of
        its disk: clients may have seen events that it lost. A restored dump, a copy, a restore
        to a point in time and a failover are noticed without it (the last unless
        `config.lossless_failover`).

        Raises:
            RegistryUnavailable: the database did not answer in time; safe to retry.

        Concurrency: at once for all games; a replay that is being paged through ends with
        `EpochMismatch`. One round trip.
        """
        self._database.rows(queries.renew_epochs, {})

    def train_dictionary(self, *, size: int = 16_384) -> TrainedDictionary:
        """Trains a compression dictionary on this installation's own events, and stores it.

        Without one, small payloads hardly compress: each has to say all that is the same in
        all of them. This registry compresses by it from now on (if `config.compression` is
        set), others from when they are next opened; every registry reads by it at once. Train
        one when there are typical events, and again when they have changed much: each stays
        stored for good, since old rows need it.

        Args:
            size: most bytes of the dictionary, 256 to 1 MiB. A large one is not better.

        Returns:
            Its number, and what it does for a part of the events that it was not trained on.

        Raises:
            InvalidArgument: the size is out of range.
            RegistryError: there are too few events, it would make them no smaller, or the extra
                `compression` is not installed; nothing was stored.
            OutcomeUnknown: the connection broke; train again, a dictionary too many is harmless.
            RegistryUnavailable: the database did not answer in time; safe to retry.

        Concurrency: locks nothing, reads at most some ten thousand recent events in a statement
        that is bounded, then computes for a second or so. Two round trips, and one for each
        new dictionary that the events sampled were compressed by.
        """
        return self._payloads.train(arguments.whole("size", size, *SIZES))

-- A row if the partition for the rest ({rest}) has events of an interval. No partition can be added
-- for that.
-- Locks nothing.
-- Index: none is by time; it looks through the partition, which should be empty.
SELECT FROM {rest} WHERE recorded_at >= %(lower)s AND recorded_at < %(upper)s LIMIT 1

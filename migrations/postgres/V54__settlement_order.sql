-- Settlement goes by pages through what is over, in the order of its end, and apart from that through what runs: each has an index of its own.
DROP INDEX rentals_to_settle;
CREATE INDEX rentals_to_settle ON rentals (ended_at, id) WHERE state = 'ended' AND settled_at IS NULL;
DROP INDEX rentals_unsettled;
CREATE INDEX rentals_billed ON rentals (id) WHERE state IN ('active', 'stopping');

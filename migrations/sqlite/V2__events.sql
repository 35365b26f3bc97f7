-- The outbox: an event is written with the change that it tells of; seq, its place in the stream, is given afterwards
-- by the relay under a lock on event_head, so that places are dense and follow the order of commits.
CREATE TABLE events (
    row_no      INTEGER PRIMARY KEY AUTOINCREMENT,
    seq         INTEGER UNIQUE,
    id          TEXT NOT NULL UNIQUE,
    kind        TEXT NOT NULL,
    at_us       INTEGER NOT NULL,
    consumer_id TEXT,
    provider_id TEXT,
    rental_id   TEXT,
    node_id     TEXT,
    payload     TEXT NOT NULL,
    request_id  TEXT NOT NULL
) STRICT;
CREATE INDEX events_waiting ON events (row_no) WHERE seq IS NULL;
CREATE INDEX events_by_rental ON events (rental_id, seq) WHERE rental_id IS NOT NULL;
CREATE INDEX events_by_node ON events (node_id, seq) WHERE node_id IS NOT NULL;

CREATE TABLE event_head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seq INTEGER NOT NULL
) STRICT;
INSERT INTO event_head (one, seq) VALUES (1, 0);

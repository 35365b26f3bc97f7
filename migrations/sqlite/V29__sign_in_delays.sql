-- Who fails to prove who they are, again and again, waits longer each time, whichever coordinator they ask. what is SHA-256 of
-- an account's e-mail address or of a client's address: addresses without an account count alike, and none is kept in clear.
CREATE TABLE sign_in_delays (
    what     BLOB PRIMARY KEY,
    failures INTEGER NOT NULL CHECK (failures > 0),
    last_us  INTEGER NOT NULL
) STRICT;
-- what is old enough to be forgotten
CREATE INDEX sign_in_delays_by_age ON sign_in_delays (last_us);

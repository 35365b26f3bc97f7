-- Who did what to whom: written in the transaction of the change itself, chained by hash, never changed. audit_head is the end of the
-- chain and the lock that keeps several coordinators from forking it.
CREATE TABLE audit_log (
    seq         INTEGER NOT NULL PRIMARY KEY,
    at_us       INTEGER NOT NULL,
    actor       TEXT NOT NULL,
    -- the session or key by which somebody acted; absent for those who need none
    via         TEXT,
    action      TEXT NOT NULL,
    object      TEXT NOT NULL,
    -- JSON; absent where there was or is nothing to tell
    before_json TEXT,
    after_json  TEXT,
    reason      TEXT,
    -- the client's address; absent for timers and commands
    client      TEXT,
    request_id  TEXT NOT NULL,
    prev_hash   BLOB NOT NULL,
    hash        BLOB NOT NULL,
    CONSTRAINT audit_log_seq CHECK (seq > 0),
    CONSTRAINT audit_log_hashes CHECK (length(prev_hash) = 32 AND length(hash) = 32)
) STRICT;
-- GET /admin/audit reads backwards in time, by each filter
CREATE INDEX audit_log_by_time ON audit_log (at_us, seq);
CREATE INDEX audit_log_by_actor ON audit_log (actor, at_us, seq);
CREATE INDEX audit_log_by_action ON audit_log (action, at_us, seq);
CREATE INDEX audit_log_by_object ON audit_log (object, at_us, seq);

CREATE TRIGGER audit_log_no_update BEFORE UPDATE ON audit_log
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
CREATE TRIGGER audit_log_no_delete BEFORE DELETE ON audit_log
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
-- INSERT OR REPLACE deletes without asking the trigger above
CREATE TRIGGER audit_log_no_replace BEFORE INSERT ON audit_log
WHEN EXISTS (SELECT 1 FROM audit_log WHERE seq = NEW.seq)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TABLE audit_head (
    one  INTEGER NOT NULL PRIMARY KEY,
    seq  INTEGER NOT NULL,
    hash BLOB NOT NULL,
    CONSTRAINT audit_head_one CHECK (one = 1)
) STRICT;
INSERT INTO audit_head (one, seq, hash) VALUES (1, 0, zeroblob(32));
CREATE TRIGGER audit_head_forward BEFORE UPDATE ON audit_head
WHEN NEW.seq NOT IN (OLD.seq, OLD.seq + 1)
BEGIN
    SELECT RAISE(ABORT, 'the head of the audit log moves by one');
END;
CREATE TRIGGER audit_head_stays BEFORE DELETE ON audit_head
BEGIN
    SELECT RAISE(ABORT, 'the audit log has a head');
END;

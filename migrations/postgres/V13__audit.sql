-- Who did what to whom: written in the transaction of the change itself, chained by hash, never changed. audit_head is the end of the
-- chain and the lock that keeps several coordinators from forking it.
CREATE TABLE audit_log (
    seq         BIGINT NOT NULL PRIMARY KEY,
    at_us       BIGINT NOT NULL,
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
    prev_hash   BYTEA NOT NULL,
    hash        BYTEA NOT NULL,
    CONSTRAINT audit_log_seq CHECK (seq > 0),
    CONSTRAINT audit_log_hashes CHECK (length(prev_hash) = 32 AND length(hash) = 32)
);
-- GET /admin/audit reads backwards in time, by each filter
CREATE INDEX audit_log_by_time ON audit_log (at_us, seq);
CREATE INDEX audit_log_by_actor ON audit_log (actor, at_us, seq);
CREATE INDEX audit_log_by_action ON audit_log (action, at_us, seq);
CREATE INDEX audit_log_by_object ON audit_log (object, at_us, seq);

CREATE FUNCTION audit_log_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END
$$;
CREATE TRIGGER audit_log_no_change BEFORE UPDATE OR DELETE ON audit_log
FOR EACH ROW EXECUTE FUNCTION audit_log_append_only();
CREATE TRIGGER audit_log_no_truncate BEFORE TRUNCATE ON audit_log
FOR EACH STATEMENT EXECUTE FUNCTION audit_log_append_only();

CREATE TABLE audit_head (
    one  BIGINT NOT NULL PRIMARY KEY,
    seq  BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    CONSTRAINT audit_head_one CHECK (one = 1)
);
INSERT INTO audit_head (one, seq, hash) VALUES (1, 0, decode(repeat('00', 32), 'hex'));
CREATE FUNCTION audit_head_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR NEW.seq NOT IN (OLD.seq, OLD.seq + 1) THEN
        RAISE EXCEPTION 'the head of the audit log moves by one';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER audit_head_forward BEFORE UPDATE OR DELETE ON audit_head
FOR EACH ROW EXECUTE FUNCTION audit_head_moves();

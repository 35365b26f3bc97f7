-- People see where they are signed in, and what moves money or identity asks when a session last proved who they are.
-- Absent in sessions of before: then the moment of the login counts, and the rest isn't known.
ALTER TABLE sessions ADD COLUMN proven_us BIGINT;
ALTER TABLE sessions ADD COLUMN last_used_us BIGINT;
ALTER TABLE sessions ADD COLUMN user_agent TEXT;
ALTER TABLE sessions ADD COLUMN client_ip TEXT;

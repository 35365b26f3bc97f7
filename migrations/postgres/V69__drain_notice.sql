-- When a drain was asked for: whoever was promised notice keeps it from then on.
ALTER TABLE nodes ADD COLUMN drain_asked_at BIGINT; -- NULL: none, or asked for before this was kept

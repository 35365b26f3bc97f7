-- Memory that runs short, told once when it begins and once when it ends: why a node is short of it ('' while it isn't),
-- and how many processes of a rental the kernel killed for it.
ALTER TABLE nodes ADD COLUMN memory_pressure TEXT NOT NULL DEFAULT '';
ALTER TABLE rentals ADD COLUMN oom_kills INTEGER NOT NULL DEFAULT 0 CONSTRAINT rentals_oom_kills CHECK (oom_kills >= 0);

-- Facts about this database itself. `database_id` tells a restored copy or a second market from the first.
CREATE TABLE store_meta (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

//! What only SQLite has: groups, checkpoints, backups.

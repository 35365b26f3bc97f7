-- What is over is forgotten, oldest first: sessions with their refresh tokens, and links that nobody used.
CREATE INDEX sessions_by_end ON sessions (ends_us);
CREATE INDEX account_links_by_expiry ON account_links (expires_us);

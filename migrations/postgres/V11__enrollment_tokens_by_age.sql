-- Tokens are forgotten by age whenever one is made, and the unused ones of a provider are counted: neither may read the whole table.
CREATE INDEX enrollment_tokens_by_age ON enrollment_tokens (expires_at);
CREATE INDEX enrollment_tokens_open ON enrollment_tokens (owner, expires_at) WHERE node_id IS NULL;

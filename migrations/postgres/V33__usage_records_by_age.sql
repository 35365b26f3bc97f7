-- Usage records of rentals that are settled are forgotten after some months: the oldest first.
CREATE INDEX usage_records_by_age ON usage_records (received_at, node_id, seq);

-- Whether what is rented reaches the internet, as its offer says, and the least that must lie between it and the machine: what its
-- node said when it was ordered (null: an agent that said nothing).
ALTER TABLE offers ADD COLUMN internet BIGINT NOT NULL DEFAULT 1;
ALTER TABLE rentals ADD COLUMN internet BIGINT NOT NULL DEFAULT 1;
ALTER TABLE rentals ADD COLUMN isolation TEXT;

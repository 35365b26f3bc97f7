-- Which coordinator holds a node's link, for streams that are asked for at another one. A row of a coordinator that is gone
-- is replaced when its agent links anew.
CREATE TABLE node_links (
    node_id TEXT NOT NULL PRIMARY KEY REFERENCES nodes (id),
    peer_url TEXT NOT NULL, -- where other coordinators reach it
    instance TEXT NOT NULL, -- its run
    serial BIGINT NOT NULL, -- of its links
    linked_us BIGINT NOT NULL
);

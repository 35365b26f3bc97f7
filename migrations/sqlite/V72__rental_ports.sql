-- Ports of rentals that the web reaches, each under a host name of its own. A private one's token is made of its version.
CREATE TABLE rental_ports (
    rental_id TEXT NOT NULL REFERENCES rentals (id),
    port INTEGER NOT NULL CONSTRAINT rental_ports_port CHECK (port BETWEEN 1 AND 65535),
    access TEXT NOT NULL CONSTRAINT rental_ports_access CHECK (access IN ('public', 'private')),
    version INTEGER NOT NULL,
    PRIMARY KEY (rental_id, port)
) STRICT;

-- The image that was quoted: its manifest's digest, how many layers and how many bytes, as JSON. A tag that moves between quote and
-- start changes nothing. Null where no registry was asked: the node finds out what the tag means.
ALTER TABLE quotes ADD COLUMN pinned_image TEXT;
ALTER TABLE rentals ADD COLUMN pinned_image TEXT;

-- What rentals run is sealed: people put passwords into commands and variables, and a database gets copied. `spec` keeps the image
-- alone from now on. Absent for rentals that are older, whose `spec` is whole, and for those that ended.
ALTER TABLE rentals ADD COLUMN sealed_spec BLOB;

CREATE TABLE IF NOT EXISTS scan (
    id        INTEGER PRIMARY KEY,  -- the order in which scans were accepted
    parcel    TEXT NOT NULL,
    status    TEXT NOT NULL,
    at        TEXT NOT NULL,        -- ISO 8601 with its zone
    latitude  REAL NOT NULL,
    longitude REAL NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS scan_by_parcel ON scan (parcel, id);

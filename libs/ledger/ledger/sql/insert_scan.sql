INSERT INTO scan (parcel, status, at, latitude, longitude)
VALUES (:parcel, :status, :at, :latitude, :longitude);

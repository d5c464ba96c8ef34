SELECT parcel, status, at, latitude, longitude
FROM scan
WHERE parcel = :parcel
ORDER BY id;

SELECT parcel, status, at, latitude, longitude
FROM scan
ORDER BY parcel, id;

"""Reports on parcels, on the command line."""

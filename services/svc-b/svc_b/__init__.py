"""A worker that files scans from an inbox into the ledger."""

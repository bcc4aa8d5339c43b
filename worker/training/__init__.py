"""Jobs: kept in a ledger on disk, run one at a time in a process of their own."""

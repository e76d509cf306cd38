"""The wallet: the ledger of points."""

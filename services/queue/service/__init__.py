"""What the queue does: `visitors` (join, come in, leave), `leading` (the tick), `keeping` (rooms, expiry, purge)."""

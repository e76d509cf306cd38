"""The rules of seats, reservations and payments; no clock, no store, no network."""

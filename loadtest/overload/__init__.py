"""Far more than the system can do: who is refused, how fast, and how much is still served. `make overload`."""

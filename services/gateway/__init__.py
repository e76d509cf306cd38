"""The gateway: the only door from outside."""

"""People who buy, for whoever puts load on a system: how they call, what they insist on, what they saw."""

"""The queue: the line of people who wait, and who is inside."""

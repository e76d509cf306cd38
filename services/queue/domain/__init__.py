"""The rules of the line: `line` (the room), `visits` (who is inside), `joins` (a join that is sent twice)."""

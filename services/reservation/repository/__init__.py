"""The room's documents, and its memory of schedules."""

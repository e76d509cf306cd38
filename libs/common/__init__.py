"""Used by two rooms or more, and knows no room."""

"""The catalog: what is on sale, and a view of what is still free."""

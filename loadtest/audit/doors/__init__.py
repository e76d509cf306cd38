"""Read-only ways into stores and brokers. Whatever goes through them comes out; nothing goes in."""

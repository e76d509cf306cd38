"""What puts load on a running system and measures what it costs."""

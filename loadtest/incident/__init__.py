"""The seed's incident, a cache that expires under its readers: made to happen, and shown not to."""

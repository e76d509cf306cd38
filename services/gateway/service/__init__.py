"""The gateway's parts: what it knows (`lines`, `sessions`), what it lets pass (`door`, `limits`), what it calls
(`guarded`, `queue_client`) and what it answers (`waiting`, `forwarding`)."""

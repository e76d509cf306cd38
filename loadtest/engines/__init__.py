"""What makes the load: locust with our arrival-rate executor, or k6."""

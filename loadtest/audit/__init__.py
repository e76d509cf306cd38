"""The auditor: reads every store, stream and dead letter, and decides by its own few lines what must hold."""

"""The five services. Load-bearing: without this file `services/queue` would shadow the standard library's `queue`."""

"""The whole system on one machine: the supervisor behind `make run`, its command line, and the loader of venues."""

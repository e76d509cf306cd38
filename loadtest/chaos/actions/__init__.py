"""Faults for a running system, each with its undo, as plain functions that chaostoolkit's python provider can call.

Arguments and results are JSON values. The system is the one that STATE_DIR of the environment names. A module's
`needs()` is empty where this machine can do what the module does; else it names what is missing, with a sentence.
What cannot be done raises ConfigError with one sentence.
"""

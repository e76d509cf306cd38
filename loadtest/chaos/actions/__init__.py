"""Faults for a running system, each with its undo, as plain functions that chaostoolkit's python provider can call.

Arguments and results are JSON values. `state_dir` names the system (empty: STATE_DIR of the environment). A module's
`needs()` is empty where this machine can do what the module does; else it names what is missing, with a sentence.
What cannot be done raises ConfigError with one sentence.
"""

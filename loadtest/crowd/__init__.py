"""The locust side of a load: people, and what makes them come at a rate.

Importing locust patches the standard library for the whole process, so nothing but locust imports these modules.
"""

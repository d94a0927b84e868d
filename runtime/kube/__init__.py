"""The way to the API server: a client of raw JSON, and watches that keep a mirror of a collection.

The `kubernetes` package gives the configuration and the untyped connection, nothing else: naming
one of its typed classes costs 20 MB and most of a second in every process.
"""

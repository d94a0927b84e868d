"""Plumbing that the programs share: the clock, the logs, the catalog as a file."""

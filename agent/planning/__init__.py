"""Deciding what a node should do next: values in, a plan out.

Pure by contract: no I/O, no clock, no logger. `values` is what the agent observed, `plan` what it
decides, `statuses` what it tells the pods.
"""

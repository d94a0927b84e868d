"""What every part of Larder must agree on: values, parsing, rules.

Pure by contract (import-linter holds it): nothing here does I/O, reads a clock, or logs. The
programs never import one another; what they share is in this package, and what crosses a process
boundary (names, files, environment) is in `larder.contract`, `larder.layout`, `larder.manifest`
and `larder.status`.
"""

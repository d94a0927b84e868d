"""The node agent: it keeps on one node's disk what the catalog asks for.

One loop, four verbs: `observe` gathers values, `planning` decides (pure), `execute` acts through
`store` (the only writer under the cache root) and `fill` (a child process a model), `report` tells
pods and operators. `sources` lists and fetches, one file a scheme.
"""

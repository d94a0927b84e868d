"""Fills: a child process a model, exec'd, that fetches and verifies what its parent publishes.

`job` is what the two say to each other, `runner` and `child` the parent's side, `__main__` and
`engine` the child's; `cursor`, `parts` and `staging` are its hands on the disk.
"""

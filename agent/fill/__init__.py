"""Fills: a child process a model, exec'd, that fetches and verifies what its parent publishes.

`job` is what the two say to each other, `runner` the parent's side, `__main__` and `engine` the
child's; `parts`, `cursor` and `tree` are the child's hands on the disk.
"""

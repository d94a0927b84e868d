"""The program that a pod's init container runs out of a slot: link the model, wait, or fall back.

Runs in images that know nothing of Larder, so its modules import nothing but the standard library
of Python 3.9 and one another; only `program`, which composes the one file, runs in the agent.
"""

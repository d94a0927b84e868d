"""The agent's view of a cluster: its node, the node's pods, Secrets, and what it reports.

Each part stands for one that is known without a cluster (`agent.pods.NoPods`, flags, files), so
that the loop does not know which it runs in.
"""

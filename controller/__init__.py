"""Makes and retires the PersistentVolumes and claims by which restricted namespaces read slots.

observe ─▶ plan (`controller.planning`, pure) ─▶ execute ─▶ report, as long as the Lease is ours.
"""

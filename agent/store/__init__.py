"""The only writer under the cache root.

`at` holds every system call that changes the disk, `root` opens the tree and its lock, `inventory`
reads it into values, `store` moves models between slots, staging and trash, `blobs` is the part
that a fill's child process uses.
"""

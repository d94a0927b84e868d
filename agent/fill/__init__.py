"""Fills: a child process a model, exec'd, that fetches and verifies what its parent publishes.

`job` is what the two say to each other, `runner` and `child` the parent's side, `__main__` the
child's. There, from the whole to the byte:

    engine      link what is there, have the rest downloaded, make it blobs, write the manifest
    download    the thread in the middle: what is done, what went wrong, how many streams
    supply      which range of which file a stream fetches next
    streams     the threads; each has a `fetcher`, with patience and a connection at a time
    partial     a file as it grows, written by several streams (`agent.planning.window`)
    cursor      what hashes it behind them, syncs and records its parts (`hashes`, `parts`)

`staging` is the listing and the tree, `unpack` what comes of archives, `meter` tells how far all of
it is, `throttle` holds it to a rate; `ground` and `workplace` are what they share.
"""

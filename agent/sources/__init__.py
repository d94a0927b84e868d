"""Where models come from: one interface, one module a kind of place.

    schemes        which URI gets which source, and the table of docs/sources.md
    interface      what a source promises
    hf             the Hugging Face Hub          https       a single file
    objects        what buckets have in common:  s3, gs, azure, each with how it is opened
    web            requests over HTTP            ranges      an answer, held against the listing
    secret         KServe's Secrets              revisions   a revision where there is no commit
    tokens         what an authority lends       workload_identity   what the agent is at its cloud
    xet            hf-xet as another way to a hub's files: xet_process is its process from outside,
                   xet_child from inside
    archives       tar and zip, member by member

A source runs in the fill's child process only.
"""

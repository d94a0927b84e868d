"""The `larder` command: looking at catalogs, pods and cache roots, and changing none of them.

    __main__.py      what there is: every command with its options and help
    catalog.py  demo.py  doctor.py  explain.py  ls.py  plan.py  verify.py
                     one a command: gather, call a pure function, print, say the exit status
    explanation.py   pure: a decision about a pod in words
    explain_live.py  live_explanation.py  scheduling.py
                     the same of a pod that a cluster has: reads and tables; words; whether a node
                     could take it (both pure)
    doctor_reads.py  doctor_findings.py
                     what doctor reads of a cluster; what it can say (pure)
    doctor_install.py  doctor_webhook.py  doctor_nodes.py  doctor_catalog.py
                     its checks, by what they are about (pure)
    listing.py       pure: what is on the disk, as rows and totals
    verification.py  re-hashing what was published
    inputs.py        files, catalogs and roots named on the command line
    output.py        tables, JSON, and text that cannot act on a terminal
    reference.py     writes docs/cli.md from the program
    reasons_page.py  writes docs/reasons.md from the contract

Exit status: 0 fine, 1 a problem was found, 2 wrong use. A command's own modules are imported when
it runs, so that `larder --help` answers at once.
"""

from typing import Literal

OutputForm = Literal["table", "json"]
"""How a command prints."""

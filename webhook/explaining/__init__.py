"""Decisions in words, for people: what `larder explain` and the webhook's `/explain` both say.

    explanation.py       one decision: its reason, each URI, each entry of the catalog beside it
    live_explanation.py  a pod that a cluster has: what was done to it, and what became of it
    scheduling.py        whether a node could take a pod
    text.py              all of it as lines and tables
    question.py          what is asked of `/explain`
    answer.py            what it answers
    access.py            who asks, and what they may
    reads.py             what it reads of the cluster
    explainer.py         puts them in order

All above `text.py`, and `question.py`, are pure.
"""

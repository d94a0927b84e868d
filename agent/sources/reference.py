"""Writes docs/sources.md from the program: `python -m agent.sources.reference > docs/sources.md`.

The table is `agent.sources.schemes.SCHEMES`; a test compares the file with this, and the contract
suite compares the table's digests with what each source lists.
"""

import sys
from typing import Final

from agent.sources.archives import MAX_MEMBERS, MAX_RATIO
from agent.sources.hf_politeness import BURST_REQUESTS, REQUESTS_PER_SECOND
from agent.sources.objects import MAX_DESCRIBED, MAX_OBJECTS
from agent.sources.schemes import SCHEMES, Scheme
from agent.sources.secret import IDENTITIES
from larder.storage_uri import ARCHIVES, scheme_of

_FIGURES: Final = {
    "described": MAX_DESCRIBED,
    "burst": BURST_REQUESTS,
    "rate": REQUESTS_PER_SECOND,
}
_PAGE: Final = """\
# Sources

Where models come from, what proves their bytes, and what opens the place. `credentials` of an entry
names a Secret of `larder-credentials` in the shape in which KServe takes it: the Secret that an
initializer would have been given serves unchanged. Standalone, `tokenFile` and `tokenEnv` hold a
token for `hf://` and single files, and for object stores a JSON object of the Secret's keys.

This page is made from the program by `python -m agent.sources.reference > docs/sources.md`.

{table}

**Digest**: what the source says of the bytes before they are fetched; they are compared with it.
Where it knows none, the bytes of a node's first fill are the reference (*trust on first use*): the
manifest has their SHA-256, with which the slot is verified from then on. The catalog's `digest`
pins a model in either case. A slot's status counts the files that nothing else vouches for:
`unprovenFiles`, in `larder ls --output json`.

**Revision**: what names these very bytes. Where there is no commit, it is `sha256:` of path, size,
ETag and version of every file. What was resolved is in the slot's manifest. Every range is asked
for in the version that was listed; a source that has moved on is `SourceDrifted`, and listed anew.
A model that is Ready is not asked for again: it stays what was filled, whatever happens at the
source, and a node that fills later gets what is there then. So write a new version below a new
prefix and name that, or pin a `digest`. Nodes whose revisions differ are told by a metric.

**Resume**, **parallel**: a fetch goes on at any byte; ranges of one file are independent of one
another. Where a server says neither ETag nor date, a file is fetched whole or not at all.

## The tree that a server sees

It is the one that KServe's initializer makes of the same URI, with these differences, each of which
leaves the pods to KServe's own download:

- A prefix ends at a `/`: `s3://b/m` has nothing of `s3://b/m2`. (KServe takes both.)
- A prefix that is an object and has others below it is refused: what KServe makes of it depends on
  a trailing `/`, which the catalog drops.
- A key that no file can have is refused, and the model with it: `..`, `//`, control characters,
  names beyond 255 bytes, a file that is a directory of another.
- More than {max_objects:,} objects are no model.

Folder markers are no files. Objects without a byte are dropped as KServe drops them: in S3 and
Azure, not in Google Cloud Storage. `allowPatterns` and `ignorePatterns` choose as KServe's do.

A model whose only file is an archive ({archives}) is unpacked, and its entry says with `maxSize`
how much it may hold: so much room is reserved besides its own. What it will come to nobody knows,
so that its fill has neither total nor ETA, and its pods wait as long as it moves and `joinTimeout`
lets them; in the queue, all that it may hold is reckoned with. It is refused as a whole for a link,
a device, a file with holes, a name that leads out or comes twice, damage, more than {members:,}
members, or for growing beyond `maxSize` or to {ratio} times its size. KServe takes links that stay
inside.

## Each source

{sources}

## The agent's own identity

`credentials: {{workloadIdentity: true}}` opens an object store with what the agent's pod is at its
cloud. An entry without it is never given that; one with it has credentials, so that for everyone
(`namespaces: ["*"]`) it says `public: true`. Found by the variables that the cloud sets in the pod:

| URI | variables |
|---|---|
{identities}

The cloud learns who that is from the ServiceAccount `larder-agent` of `larder-system`: on EKS by
its annotation `eks.amazonaws.com/role-arn` or a Pod Identity association, on GKE by its name or the
annotation `iam.gke.io/gcp-service-account`, on AKS by `azure.workload.identity/client-id` and the
pods' label `azure.workload.identity/use: "true"`.

Tokens of the kubelet are read from their file whenever they are shown. What is lent for them is
asked for again five minutes before its end, so that a fill may last longer. `AWS_ENDPOINT_URL_STS`,
`AZURE_AUTHORITY_HOST` and `GCE_METADATA_HOST` name other places. Whoever edits the catalog chooses
what is read with it: let it read the models and nothing else. On GKE without Workload Identity
Federation the metadata server lends what the node is. Tried against moto's STS and servers of the
tests' own, not against a cloud.

## Ways out

`network.proxy` and `network.caBundle` of the catalog hold for every source, and for the tokens that
they ask for. Without a proxy there, `HTTP_PROXY` and `HTTPS_PROXY` of the agent say one; `NO_PROXY`
holds for both. A proxy is `http://HOST:PORT`; others are one sentence. `caBundle` is trusted beside
the machine's own (`SSL_CERT_FILE`).

A redirect to another origin (a signed link) is followed without any secret; one from https to http
is refused. `Retry-After` is obeyed, up to an hour. No sentence holds a secret or a URL's query.
"""


def reference() -> str:
    """The whole page."""
    return _PAGE.format(
        table="\n".join(
            [
                "| URI | digest | revision | resume | parallel | credentials (the Secret's keys) |",
                "|---|---|---|---|---|---|",
                *(_row(scheme) for scheme in SCHEMES),
            ]
        ),
        archives=", ".join(f"`{ending}`" for ending in ARCHIVES),
        max_objects=MAX_OBJECTS,
        members=MAX_MEMBERS,
        ratio=MAX_RATIO,
        sources="\n".join(f"**`{s.uri}`** {s.note.format(**_FIGURES)}\n" for s in SCHEMES).strip(),
        identities="\n".join(_identity_row(scheme) for scheme in SCHEMES if _ways(scheme)),
    )


def _ways(scheme: Scheme) -> tuple[tuple[str, ...], ...]:
    """The variables by which the agent's own identity may open a scheme."""
    is_single_file = scheme.uri.startswith("https://HOST/")
    return () if is_single_file else IDENTITIES.get(scheme_of(scheme.uri), ())


def _identity_row(scheme: Scheme) -> str:
    ways = (" and ".join(f"`{name}`" for name in way) for way in _ways(scheme))
    said = "; or ".join(way or "none: GKE's metadata server is where it always is" for way in ways)
    return f"| `{scheme.uri}` | {said} |"


def _row(scheme: Scheme) -> str:
    digests = " or ".join(scheme.digests.values()) or "none: trust on first use"
    keys = ", ".join(f"`{key}`" for key in scheme.keys)
    keys += "; or the agent's own identity" if _ways(scheme) else ""
    resume = "yes" if scheme.resumes else "no"
    parallel = "yes" if scheme.is_parallel else "no"
    return f"| `{scheme.uri}` | {digests} | {scheme.revision} | {resume} | {parallel} | {keys} |"


if __name__ == "__main__":
    sys.stdout.write(reference())

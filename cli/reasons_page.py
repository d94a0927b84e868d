"""Writes docs/reasons.md from the contract: `python -m cli.reasons_page > docs/reasons.md`.

Every code of the closed lists, what it means and what cures it, in the words of `larder.reasons`. A
test compares the file with this.
"""

import sys
from collections.abc import Iterable, Iterator
from typing import Final

from larder.contract import DecisionReason, EventReason, FillFailure, RunReason
from larder.reasons import Reason, meaning_of

_INTRODUCTION: Final = """\
# Reasons

Every answer that Larder gives is a code of one of four closed lists: why a pod is pointed at its
node's copy or not, what its init container did there, why a model could not be filled, and what
Events tell. `larder explain pod/NAME -n NAMESPACE` shows the first three for one pod.

This page is made from the program by `python -m cli.reasons_page > docs/reasons.md`.
"""
_ADMISSION: Final = """\
## At admission

When a pod is created: in the webhook's log, in `larder_webhook_decisions_total{reason=…}` and in
`larder explain`; the annotation `larder.dev/decision` says `Cached`, and a pod that is left alone
has none. Tenants are told `ModelNotInCatalog` where it says `NamespaceNotAllowed`, and so is the
metric, which they may be able to read.
"""
_NODE: Final = """\
## On the node

What the init container `storage-initializer` did: in its log, before KServe's own download where it
fell back. Its termination message says `hit` or `joined` with seconds, and is KServe's otherwise.
"""
_FILLS: Final = """\
## Failures of fills

Why a model is `Failed` on a node: in ConfigMap `larder-node-<node>`, in the agent's log, and in the
log of a pod that came meanwhile.
"""
_EVENTS: Final = """\
## Events

Of Nodes in namespace `default` (models by their key), and of the catalog and the certificates'
Secret in `larder-system`.
"""
_SECTIONS: Final[tuple[tuple[str, Iterable[Reason]], ...]] = (
    (_ADMISSION, DecisionReason),
    (_NODE, RunReason),
    (_FILLS, FillFailure),
    (_EVENTS, EventReason),
)
_NOTHING_AMISS: Final = "None is needed."


def page() -> str:
    """The whole page."""
    return "\n".join([_INTRODUCTION, *_sections()])


def _sections() -> Iterator[str]:
    for introduction, reasons in _SECTIONS:
        rows = (f"| `{r}` | {meaning_of(r).sentence} | {_cure(r)} |\n" for r in reasons)
        yield f"{introduction}\n| code | what it means | cure |\n|---|---|---|\n{''.join(rows)}"


def _cure(reason: Reason) -> str:
    return meaning_of(reason).cure or _NOTHING_AMISS


if __name__ == "__main__":
    sys.stdout.write(page())

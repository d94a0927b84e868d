"""`larder doctor`: everything that can be amiss with an install, in one look that changes nothing.

Reads, then pure checks, then a line each: ok, warning, broken, or not checked and why not.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from cli import OutputForm, doctor_catalog, doctor_install, doctor_nodes, doctor_webhook
from cli.doctor_findings import Cluster, Finding, Verdict, findings_of
from cli.doctor_reads import read_cluster
from cli.output import FOUND_A_PROBLEM, console, refuse, say, show_json, show_table, styled
from runtime.clock import SystemClock
from runtime.kube.client import KubeClient
from runtime.kube.errors import KubeError
from runtime.printing import Cell

JSON_EXAMPLE: Final = """\
{
  "isBroken": true,
  "version": "v1.34.1",
  "findings": [
    {
      "check": "nodes", "verdict": "warning",
      "sentence": "no agent runs on gpu-7, labelled kserve/localmodel=worker",
      "cure": "Look at the node's taints and room, or take the label off",
      "about": ["gpu-7"]
    }
  ]
}"""

CHECKS: Final = (
    *doctor_install.CHECKS,
    *doctor_webhook.CHECKS,
    *doctor_nodes.CHECKS,
    *doctor_catalog.CHECKS,
)
_PROGRAM: Final = "larder"
_STYLES: Final = {
    Verdict.OK: "green",
    Verdict.WARNING: "yellow",
    Verdict.BROKEN: "bold red",
    Verdict.NOT_CHECKED: "dim",
}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that is shown."""

    is_broken: bool
    version: str
    findings: tuple[Finding, ...]


def doctor(kubeconfig: Path | None, output: OutputForm) -> int:
    """Print what each check found. Returns the exit status: 1 if anything is broken."""
    try:
        client = KubeClient.from_kubeconfig(_PROGRAM, kubeconfig)
        try:
            cluster = read_cluster(client, SystemClock().now())
        finally:
            client.close()
    except KubeError as error:
        refuse(str(error))
    result = diagnosis_of(cluster)
    if output == "json":
        show_json(result)
    else:
        _show(console(), result)
    return FOUND_A_PROBLEM if result.is_broken else 0


def diagnosis_of(cluster: Cluster) -> Diagnosis:
    """What all checks have to say."""
    findings = tuple(findings_of(CHECKS, cluster))
    is_broken = any(finding.verdict is Verdict.BROKEN for finding in findings)
    return Diagnosis(is_broken, cluster.version, findings)


def _rows(findings: tuple[Finding, ...]) -> Iterator[tuple[Cell, ...]]:
    """A line each, and what to do below it; once, where several ask for the same."""
    following = (*(finding.cure for finding in findings[1:]), "")
    for finding, next_cure in zip(findings, following, strict=True):
        verdict = styled(finding.verdict, _STYLES[finding.verdict])
        yield finding.check, verdict, finding.sentence
        if finding.cure and finding.cure != next_cure:
            yield "", "", finding.cure


def _show(out: Console, result: Diagnosis) -> None:
    rows = _rows(result.findings)
    show_table(out, ("CHECK", "VERDICT", "WHAT, AND WHAT TO DO"), rows)
    counts = Counter(finding.verdict for finding in result.findings)
    say(out)
    say(out, ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]))

"""A pod's init container on a node, run and measured: as KServe made it, or with a slot.

Each start has a directory of its own; what was downloaded is thrown away at once, so that the demo
takes no more of the disk than it says.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from rich.filesize import decimal

from demo import kubelet
from demo.admission import Admitted
from demo.processes import DemoError
from demo.report import PodStart
from demo.source import Offer, Source, own_bytes
from demo.stage import Stage
from larder.catalog import ModelEntry


@dataclass(frozen=True, slots=True)
class Model:
    """One model on its way: its offer and entry, its pod before and after."""

    offer: Offer
    entry: ModelEntry
    pods: Admitted


def start_cold(model: Model, source: Source, stage: Stage) -> PodStart:
    """Run the pod's init container as KServe made it, then throw its files away."""
    with stage.show.step(f"{model.offer.name}: start the pod as KServe made it") as step:
        container = kubelet.lay_out(model.pods.before, stage.node, _pod(stage, model, "cold"))
        start = _measured(container, source, stage)
        step.detail, step.seconds = f"{decimal(start.hub_bytes)} from the hub", start.seconds
        shutil.rmtree(container.directory)
    return start


def start_from_cache(model: Model, source: Source, stage: Stage) -> tuple[PodStart, str]:
    """Run it as the webhook changed it, and use the model that is there then."""
    with stage.show.step(f"{model.offer.name}: start it as the webhook changed it") as step:
        container = kubelet.lay_out(model.pods.after, stage.node, _pod(stage, model, "cached"))
        start = _measured(container, source, stage)
        if not container.message().startswith("hit"):
            raise DemoError(f"the pod of {model.offer.name} was no hit", container.log())
        step.detail, step.seconds = f"{decimal(start.hub_bytes)} from the hub", start.seconds
    with stage.show.step(f"{model.offer.name}: use the linked model") as step:
        try:
            step.detail = model.offer.check(container.models, stage.slot(model.entry.key))
        except (ValueError, OSError) as error:
            raise DemoError(f"the linked model does not work: {error}") from error
    return start, step.detail


def start_without_copy(model: Model, source: Source, stage: Stage) -> PodStart:
    """Run the same pod on a node that Larder never saw: it starts as without Larder."""
    with stage.show.step(
        f"{model.offer.name}: start the changed pod on a node without a copy"
    ) as step:
        directory = _pod(stage, model, "uncached")
        container = kubelet.lay_out(model.pods.after, stage.work / "empty-node", directory)
        start = _measured(container, source, stage)
        if not own_bytes(container.models):
            raise DemoError(f"the pod of {model.offer.name} has no files of its own")
        step.detail, step.seconds = f"{decimal(start.hub_bytes)} from the hub", start.seconds
        shutil.rmtree(directory)
    return start


def _measured(container: kubelet.InitContainer, source: Source, stage: Stage) -> PodStart:
    before_bytes = source.sent_bytes(container.models)
    seconds = container.run(stage.interrupts)
    return PodStart(round(seconds, 4), source.sent_bytes(container.models) - before_bytes)


def _pod(stage: Stage, model: Model, how: str) -> Path:
    return stage.work / "pods" / f"{model.entry.name}-{how}"

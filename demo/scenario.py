"""The demo, step by step: what happens around one pod, without a cluster."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import yaml
from rich.filesize import decimal

from demo import admission, tls
from demo.processes import START_SECONDS, DemoError, Program
from demo.report import DemoReport, ModelFigures, PodStart
from demo.show import Show, Step
from demo.source import Source, make_models, other_hub, own_hub
from demo.stage import Stage, open_stage
from demo.starts import Model, start_cold, start_from_cache, start_without_copy
from larder.catalog import API_VERSION, KIND, Catalog, ModelEntry, read_catalog
from larder.errors import CatalogError
from larder.layout import MANIFEST, STATUS
from larder.manifest import parse_manifest
from larder.status import ModelState, SlotStatus, parse_status
from larder.storage_uri import HubModel
from runtime.clock import SystemClock

FILL_SECONDS: Final = 3600.0
PATHS_NOTE: Final = (
    "Pods ran as their specs say, with paths of the container (/larder, /mnt/models, KServe's "
    "entrypoint) mapped below a temporary directory."
)
COPIES: Final = 3  # of the models on disk at a time: the hub's, the agent's, one pod's


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be shown: models of the demo's own of about a size, or one of another hub."""

    size_bytes: int
    hub_url: str = ""
    repo_id: str = ""
    revision: str | None = None


def play(asked: Asked, show: Show) -> DemoReport:
    """Play the demo. Raises `DemoError` for a step that fails, `Interrupted` after a signal."""
    with open_stage(show) as stage:
        source = find_models(asked, stage)
        catalog = write_catalog(source, stage)
        agent = stage.start("agent", *_agent_flags(stage))
        fill_seconds = wait_for_fills(catalog, agent, stage)
        models = admit_pods(source, catalog, stage)
        show.diff(
            f"What the webhook changed in the pod of {models[-1].offer.name}:",
            admission.pod_diff(models[-1].pods),
        )
        figures = []
        for model in models:
            cold = start_cold(model, source, stage)
            cached, check = start_from_cache(model, source, stage)
            figures.append(_figures(model, (cold, cached), fill_seconds, check, stage))
        uncached = start_without_copy(models[0], source, stage)
        agent.check()
    return DemoReport(tuple(figures), uncached, (PATHS_NOTE, *source.notes))


# --- the hub, the catalog, the agent ------------------------------------------------------------


def find_models(asked: Asked, stage: Stage) -> Source:
    """Make and serve models, or point at those of another hub."""
    if asked.hub_url:
        return other_hub(asked.hub_url, asked.repo_id, asked.revision)
    free_bytes = shutil.disk_usage(stage.work).free
    if free_bytes < COPIES * asked.size_bytes:
        raise DemoError(
            f"{stage.work.parent} has {decimal(free_bytes)} free and the demo needs "
            f"{decimal(COPIES * asked.size_bytes)}; --size makes it smaller, TMPDIR moves it"
        )
    size = decimal(asked.size_bytes)
    with stage.show.step(f"make an iris classifier and a Llama-shaped checkpoint of {size}"):
        make_models(stage.work / "hub", asked.size_bytes)
    with stage.show.step("serve them from a hub of our own") as step:
        source = stage.enter(own_hub(stage.work / "hub"))
        step.detail = source.endpoint
    return source


def write_catalog(source: Source, stage: Stage) -> Catalog:
    """Write what an admin would."""
    document = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "defaults": {"freeFloor": "64Mi"},  # a laptop's disk is fuller than a node's
        "models": [
            {
                "name": offer.name,
                "storageUri": HubModel(offer.repo_id, None).uri(None),
                "revision": offer.revision,
                "endpoint": source.endpoint,
                "namespaces": [admission.recorded_namespace()],
            }
            for offer in source.offers
        ],
    }
    text = yaml.safe_dump(document, sort_keys=False)
    (stage.work / "catalog.yaml").write_text(text)
    try:
        return read_catalog(text.encode(), standalone=True)
    except CatalogError as error:
        raise DemoError(f"these models do not fit a catalog: {error}") from error


def _agent_flags(stage: Stage) -> Iterator[str | Path]:
    stage.cache_root.mkdir(parents=True)
    yield from ("--catalog", stage.work / "catalog.yaml", "--cache-root", stage.cache_root)
    yield from ("--node-name", "demo", "--allow-any-disk")


def wait_for_fills(catalog: Catalog, agent: Program, stage: Stage) -> dict[str, float]:
    """Wait until the agent says Ready; its seconds for each model."""
    with stage.show.step("agent: fill the node's cache, verify every byte") as step:
        agent.wait_until(
            lambda: _all_ready(catalog.models, agent, stage, step), "fill", FILL_SECONDS
        )
        events = {
            entry.name: agent.wait_until(
                partial(agent.event, "model ready", key=entry.key), "say so", START_SECONDS
            )
            for entry in catalog.models
        }
    return {name: float(event["seconds"]) for name, event in events.items()}


def _all_ready(
    entries: Sequence[ModelEntry], agent: Program, stage: Stage, step: Step
) -> bool | None:
    for entry in entries:
        if failed := agent.event("fill failed", key=entry.key):
            raise DemoError(f"the agent could not fill {entry.name}: {failed['message']}")
    seen = [status for entry in entries if (status := _status_of(entry, stage))]
    done, total = (sum(s.bytes_done for s in seen), sum(s.bytes_total for s in seen))
    step.progress(f"{decimal(done)} of {decimal(total)}")
    is_ready = len(seen) == len(entries) and all(s.state is ModelState.READY for s in seen)
    return is_ready or None


def _status_of(entry: ModelEntry, stage: Stage) -> SlotStatus | None:
    try:
        return parse_status((stage.slot(entry.key) / STATUS).read_text())
    except FileNotFoundError:
        return None


# --- the pods -----------------------------------------------------------------------------------


def admit_pods(source: Source, catalog: Catalog, stage: Stage) -> list[Model]:
    """Start the webhook and send it the review of a pod for each model."""
    with stage.show.step("webhook: answer the reviews of pods as KServe makes them") as step:
        certificate = tls.make_certificate(stage.work, SystemClock())
        webhook = stage.start(
            "webhook",
            *("--catalog", stage.work / "catalog.yaml", "--host", tls.HOST, "--port", "0"),
            *("--log-level", "debug"),  # says why a pod was left alone
            *("--tls-cert", certificate.certificate, "--tls-key", certificate.key),
        )
        port = webhook.wait_until(lambda: webhook.event("ready to serve"), "listen", START_SECONDS)[
            "port"
        ]
        models = []
        for offer, entry in zip(source.offers, catalog.models, strict=True):
            review = admission.make_review(offer.name, offer.pod_uri, source.endpoint)
            pods = admission.admit(review, port, certificate)
            if pods is None:
                raise webhook.failure(f"the webhook left the pod of {offer.name} alone")
            models.append(Model(offer, entry, pods))
        step.detail = ", ".join(sorted({model.pods.decision for model in models}))
    return models


def _figures(
    model: Model,
    starts: tuple[PodStart, PodStart],  # cold, cached
    fill_seconds: Mapping[str, float],
    check: str,
    stage: Stage,
) -> ModelFigures:
    manifest = parse_manifest((stage.slot(model.entry.key) / MANIFEST).read_text())
    return ModelFigures(
        name=model.offer.name,
        storage_uri=model.entry.storage_uri,
        revision=manifest.revision,
        key=model.entry.key,
        size_bytes=manifest.size_bytes,
        decision=model.pods.decision,
        cold=starts[0],
        cached=starts[1],
        ratio=round(starts[0].seconds / starts[1].seconds, 1),
        fill_seconds=fill_seconds[model.entry.name],
        check=check,
    )

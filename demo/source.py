"""Where the demo's models come from: a hub of its own, with models made on the spot, or another."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Final

from safetensors import SafetensorError

from demo.hub import Hub, Repo
from demo.models import check_checkpoint, check_iris, files_below, make_checkpoint, make_iris
from demo.processes import DemoError
from larder.layout import MANIFEST
from larder.manifest import parse_manifest
from larder.storage_uri import HubModel

OWNER: Final = "larder-demo"

Check = Callable[[Path, Path], str]
"""Looks at a pod's model directory, with the slot at hand; one clause, or `ValueError`."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A model of a hub. `pod_revision` is part of the pods' URI; mostly they name none."""

    name: str
    repo_id: str
    revision: str
    check: Check
    pod_revision: str | None = None

    @property
    def pod_uri(self) -> str:
        """What KServe's pods say."""
        return HubModel(self.repo_id, None).uri(self.pod_revision)


@dataclass(frozen=True, slots=True)
class Source:
    """A hub and what it offers. `sent_bytes` counts for one pod's model directory, only upwards."""

    endpoint: str
    offers: tuple[Offer, ...]
    sent_bytes: Callable[[Path], int]
    notes: tuple[str, ...] = ()


def make_models(directory: Path, size_bytes: int) -> None:
    """Make the two models below a directory, as a hub's owner/model folders."""
    try:
        make_iris(directory / OWNER / "iris")
        make_checkpoint(directory / OWNER / "llama", size_bytes)
    except (OSError, SafetensorError) as error:
        raise DemoError(f"the models cannot be written: {error}") from error


@contextmanager
def own_hub(directory: Path) -> Iterator[Source]:
    """Serve the models that were made."""
    checks: dict[str, Check] = {
        "iris": lambda models, _slot: check_iris(models),
        "llama": lambda models, _slot: check_checkpoint(models),
    }
    repos = {f"{OWNER}/{name}": Repo.from_directory(directory / OWNER / name) for name in checks}
    offers = tuple(
        Offer(name, f"{OWNER}/{name}", repos[f"{OWNER}/{name}"].branches["main"], check)
        for name, check in checks.items()
    )
    with Hub(repos) as hub:
        yield Source(hub.url, offers, lambda _models: hub.bytes_sent)


def other_hub(endpoint: str, repo_id: str, revision: str | None) -> Source:
    """A model of a hub that somebody else runs."""
    name = repo_id.rpartition("/")[2].lower().replace(".", "-").replace("_", "-")[:63].strip("-")
    offer = Offer(name, repo_id, revision or "main", check_against_manifest, revision)
    note = "Bytes from the hub are those of the files that lie in the pod afterwards."
    return Source(endpoint.rstrip("/"), (offer,), own_bytes, (note,))


def own_bytes(models: Path) -> int:
    """Bytes of the files that are the pod's own: no links, nothing that the client notes down."""
    return sum(file.lstat().st_size for file in files_below(models) if not file.is_symlink())


def check_against_manifest(models: Path, slot: Path) -> str:
    """Compare every file that a pod sees with the digests of the slot's manifest."""
    manifest = parse_manifest((slot / MANIFEST).read_text())
    seen = {file.relative_to(models).as_posix(): file for file in files_below(models)}
    listed = {file.path: file.sha256 for file in manifest.files}
    if seen.keys() != listed.keys():
        odd = ", ".join(sorted(seen.keys() ^ listed.keys()))
        raise ValueError(f"{models}: the manifest and the pod differ in {odd}")
    for path, digest in listed.items():
        with seen[path].open("rb") as file:
            if file_digest(file, "sha256").hexdigest() != digest:
                raise ValueError(f"{models / path}: its digest is not the manifest's")
    return f"{len(listed)} files, each with the manifest's digest"

"""`larder ls`: what a node's cache root holds, and what it costs. Reads, and writes nothing."""

from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from agent.planning.values import Finding
from agent.store.inventory import scan
from agent.store.root import CacheRoot
from agent.store.tree import read_file
from cli import OutputForm
from cli.inputs import check_catalog, looking_at
from cli.listing import RootListing, Slot, listing_of
from cli.output import console, in_bytes, say, show_json, show_table, styled
from larder.catalog import Catalog
from larder.layout import CATALOG_FILE
from larder.status import ModelState
from larder.yaml_tree import MAX_BYTES

JSON_EXAMPLE: Final = """\
{
  "slots": [
    {
      "key": "52a2d80d4bc5fa16", "name": "llama", "state": "Downloading",
      "bytesDone": 1024, "bytesTotal": 4096, "donePercent": 25,
      "rateBytesPerSecond": 512, "etaSeconds": 6,
      "revision": "0e9e39f249a16976918f6564b8830bc894c89659", "unprovenFiles": 0,
      "storageUri": "hf://org/llama", "reason": null
    }
  ],
  "usage": {
    "contentBytes": 0, "stagingBytes": 1024, "trashBytes": 0, "quarantineBytes": 0,
    "orphanBytes": 0, "totalBytes": 1024
  },
  "disk": {"totalBytes": 1000000, "availableBytes": 900000},
  "findings": [{"path": "slots/notes.txt", "sentence": "is not a slot: …"}]
}"""

_SHOWN_REVISION: Final = 12
_SECONDS: Final = 60
_STYLES: Final = {
    ModelState.READY: "green",
    ModelState.DOWNLOADING: "yellow",
    ModelState.VERIFYING: "yellow",
    ModelState.FAILED: "red",
    ModelState.QUARANTINED: "red",
}


def ls(cache_root: Path, output: OutputForm) -> int:
    """Print what a root holds. Returns the exit status."""
    with looking_at(cache_root) as root:
        catalog, findings = _kept_catalog(root)
        inventory = scan(root.fd)
        listing = listing_of(inventory, root.disk(), catalog)
    listing = RootListing(
        listing.slots, listing.usage, listing.disk, (*findings, *listing.findings)
    )
    if output == "json":
        show_json(listing)
    else:
        _show(console(), listing)
    return 0


def _kept_catalog(root: CacheRoot) -> tuple[Catalog | None, tuple[Finding, ...]]:
    """The last good catalog of the root's agent, which knows the names."""
    document = read_file(root.fd, CATALOG_FILE, MAX_BYTES)
    if document is None:
        return None, ()
    read = check_catalog(document)
    if read.catalog is None:
        return None, (Finding(CATALOG_FILE, f"cannot be used: {read.problems[0]}"),)
    return read.catalog, ()


def _show(out: Console, listing: RootListing) -> None:
    headers = ("NAME", "KEY", "STATE", "SIZE", "DONE", "RATE", "ETA", "REVISION", "URI")
    figures = frozenset({"SIZE", "DONE", "RATE", "ETA"})
    show_table(out, headers, map(_row, listing.slots), figures)
    if not listing.slots:
        say(out, "no model is here")
    for slot in listing.slots:
        if slot.reason:
            color = "red" if slot.state == ModelState.FAILED else "yellow"
            say(out, styled(f"{slot.name or slot.key}: {slot.reason}", color))
    say(out)
    usage, disk = listing.usage, listing.disk
    places = (
        ("content", usage.content_bytes),
        ("staging", usage.staging_bytes),
        ("trash", usage.trash_bytes),
        ("quarantine", usage.quarantine_bytes),
        ("orphans", usage.orphan_bytes),
    )
    parts = ", ".join(f"{name} {in_bytes(size)}" for name, size in places if size)
    say(out, f"used {in_bytes(usage.total_bytes)}" + (f" ({parts})" if parts else ""))
    free, total = in_bytes(disk.available_bytes), in_bytes(disk.total_bytes)
    say(out, f"disk {total}, {free} free")
    for finding in listing.findings:
        say(out, styled(f"found: {finding.path} {finding.sentence}", "yellow"))


def _row(slot: Slot) -> tuple[str | Text, ...]:
    rate, eta, done = slot.rate_bytes_per_second, slot.eta_seconds, slot.done_percent
    return (
        slot.name or "",
        slot.key,
        styled(slot.state, _STYLES.get(ModelState(slot.state), "")),
        in_bytes(slot.bytes_total or None),
        in_bytes(slot.bytes_done or None) if done is None else f"{done} %",
        f"{in_bytes(rate)}/s" if rate else "",
        "" if eta is None else f"{eta // _SECONDS}m{eta % _SECONDS:02d}s",
        (slot.revision or "")[:_SHOWN_REVISION],
        slot.storage_uri or "",
    )

"""`larder demo`: the whole way of a model on this machine, without a cluster."""

import json
import sys
from typing import Annotated, Literal

import typer

from larder.quantities import parse_quantity
from larder.storage_uri import endpoint_fault, parse_hub_uri

SMALLEST_BYTES = 1_000_000


def demo(
    size: Annotated[
        str, typer.Option(help="Size of the checkpoint that is made, like 512MB.", metavar="SIZE")
    ] = "512MB",
    hub: Annotated[
        str, typer.Option(help="URL of another hub, like https://huggingface.co.", metavar="URL")
    ] = "",
    model: Annotated[
        str, typer.Option(help="A public model of that hub.", metavar="OWNER/MODEL")
    ] = "",
    revision: Annotated[
        str, typer.Option(help="The model's commit or branch; default: main.", metavar="REVISION")
    ] = "",
    output: Annotated[
        Literal["table", "json"], typer.Option(help="What standard output gets.")
    ] = "table",
) -> None:
    """Fill a cache, change a pod, start it with and without Larder, and compare.

    Makes two models and serves them from a hub of its own, or takes one of another hub. Everything
    is in a temporary directory (TMPDIR says where) and gone afterwards.
    """
    size_bytes = _size_bytes(size)
    _check_hub(hub, model, revision)
    try:
        from demo.processes import DemoError, Interrupted  # noqa: PLC0415 - an extra, and slow
        from demo.scenario import Asked, play  # noqa: PLC0415 - likewise
        from demo.show import Show  # noqa: PLC0415 - likewise
    except ModuleNotFoundError as error:
        sys.stderr.write(f"larder demo: {error.name} is missing; install larder[demo]\n")
        raise typer.Exit(1) from None
    show = Show.on(stderr=output == "json")
    try:
        report = play(Asked(size_bytes, hub, model, revision or None), show)
    except DemoError as error:
        for line in error.log:
            sys.stderr.write(f"  {line}\n")
        sys.stderr.write(f"larder demo: {error}\n")
        raise typer.Exit(1) from None
    except Interrupted as interrupt:
        sys.stderr.write("larder demo: interrupted; nothing is left behind\n")
        raise typer.Exit(128 + interrupt.number) from None
    if output == "json":
        sys.stdout.write(json.dumps(report.document(), indent=2) + "\n")
    else:
        show.table(report)


def _size_bytes(size: str) -> int:
    try:
        size_bytes = parse_quantity(size.strip().removesuffix("B"))
    except ValueError:
        size_bytes = 0
    if size_bytes < SMALLEST_BYTES:
        raise typer.BadParameter(f"{size!r}; accepted: 64MB, 512MB, 2GB, from 1MB on")
    return size_bytes


def _check_hub(hub: str, model: str, revision: str) -> None:
    if not hub and not model and not revision:
        return
    if not hub or not model:
        raise typer.BadParameter("--hub and --model go together; accepted: both, or neither")
    if fault := endpoint_fault(hub):
        raise typer.BadParameter(f"--hub {fault}")
    if parse_hub_uri(f"hf://{model}") is None or ":" in model:
        raise typer.BadParameter(f"--model {model!r} names no model; accepted: OWNER/MODEL")

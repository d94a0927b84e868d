"""`larder demo`: the whole way of a model on this machine, without a cluster."""

import sys
from typing import Final

from cli import OutputForm
from cli.output import FOUND_A_PROBLEM, refuse, show_json
from larder.quantities import parse_quantity
from larder.storage_uri import endpoint_fault, parse_hub_uri

SMALLEST_BYTES: Final = 1_000_000  # below, files of the checkpoint outweigh its weights


def demo(size: str, hub: str, model: str, revision: str, output: OutputForm) -> int:
    """Play the demo and return the exit status; a signal's is 128 and its number."""
    size_bytes = _size_bytes(size)
    _check_hub(hub, model, revision)
    try:
        from demo.processes import DemoError, Interrupted  # noqa: PLC0415 - an extra, and slow
        from demo.scenario import Asked, play  # noqa: PLC0415 - likewise
        from demo.show import Show  # noqa: PLC0415 - likewise
    except ModuleNotFoundError as error:
        if error.name == "demo":
            return _fail("the demo is no part of this image; run it from a checkout: make demo")
        return _fail(f"{error.name} is missing; install larder[demo]")
    show = Show.on(stderr=output == "json")
    try:
        report = play(Asked(size_bytes, hub, model, revision or None), show)
    except DemoError as error:
        sys.stderr.writelines(f"  {line}\n" for line in error.log)
        return _fail(str(error))
    except OSError as error:  # a full disk, above all
        return _fail(f"{error.filename or 'a file'}: {error.strerror}")
    except Interrupted as interrupt:
        _fail("interrupted; nothing is left behind")
        return 128 + interrupt.number
    if output == "json":
        show_json(report)
    else:
        show.table(report)
    return 0


def _fail(sentence: str) -> int:
    sys.stderr.write(f"larder demo: {sentence}\n")
    return FOUND_A_PROBLEM


def _size_bytes(size: str) -> int:
    try:
        size_bytes = parse_quantity(size.strip().removesuffix("B"))
    except ValueError:
        size_bytes = 0
    if size_bytes < SMALLEST_BYTES:
        refuse(f"--size {size!r} is no size of a checkpoint; accepted: 1MB and more, 512MB, 2GB")
    return size_bytes


def _check_hub(hub: str, model: str, revision: str) -> None:
    if not hub and not model and not revision:
        return
    if not hub or not model:
        refuse("--hub and --model go together; accepted: both, or neither and no --revision")
    if fault := endpoint_fault(hub):
        refuse(f"--hub {fault}")
    if parse_hub_uri(f"hf://{model}") is None or ":" in model:
        refuse(f"--model {model!r} names no model; accepted: OWNER/MODEL")

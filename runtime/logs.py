"""What a program says while it runs: structlog, one line an event on standard output.

An event is a constant phrase, its data are keys spelled like metric labels. In a pod a line is
JSON; on a terminal it is key=value. Every text is cleaned of URL queries and user parts on its way
out, whoever wrote it: signed URLs carry their credentials there.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO, cast

import orjson
import structlog
from structlog.typing import FilteringBoundLogger, Processor

_HIDDEN: Final = "***"
_URL_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s@?#]*@")
_URL_QUERY = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s?#]*)[?#][^\s\"'<>)]*")


def configure_logs(component: str, *, level: str = "info", stream: TextIO | None = None) -> None:
    """Set up logging for this process; every line carries the component's name.

    `level`: debug, info, warning or error. Call it once, before the first line. Libraries' own
    warnings (through `logging`) take the same way out.
    """
    stream = stream or sys.stdout

    def add_component(_: object, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        event["component"] = component  # not by context: threads start with an empty one
        return event

    shared: list[Processor] = [
        add_component,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _without_secrets,
    ]
    renderer: Processor
    if stream.isatty():
        renderer = structlog.processors.LogfmtRenderer(
            key_order=["timestamp", "level", "component", "event"], bool_as_flag=False
        )
    else:
        renderer = structlog.processors.JSONRenderer(serializer=_json)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(
        handlers=[_ToStructlog()], level=max(threshold, logging.WARNING), force=True
    )


def get_logger() -> FilteringBoundLogger:
    """A logger; keep one a module or object."""
    return cast("FilteringBoundLogger", structlog.get_logger())


def without_secrets(text: str) -> str:
    """A text whose URLs have lost what may hold credentials: user, query and fragment."""
    return _URL_QUERY.sub(rf"\1?{_HIDDEN}", _URL_USER.sub(rf"\1{_HIDDEN}@", text))


def _without_secrets(_: object, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {key: _cleaned(value) for key, value in event.items()}


def _cleaned(value: object) -> object:
    match value:
        case str():
            return without_secrets(value) if "://" in value else value
        case list() | tuple():
            return [_cleaned(item) for item in value]
        case dict():
            return {str(key): _cleaned(item) for key, item in value.items()}
        case None | bool() | int() | float():
            return value
        case _:
            return without_secrets(str(value))


def _json(event: object, **_: object) -> str:
    """ASCII, so that no text of a user's fails to be written; orjson where it gives that."""
    try:
        text = orjson.dumps(event).decode()
    except TypeError:  # a number of more than 64 bits, a lone surrogate
        text = ""
    return text if text and text.isascii() else json.dumps(event)


class _ToStructlog(logging.Handler):
    """Hands a library's log record on as one event."""

    def emit(self, record: logging.LogRecord) -> None:
        log = get_logger().bind(logger=record.name)
        error = record.exc_info[1] if record.exc_info else None
        log.log(
            min(record.levelno // 10 * 10, logging.CRITICAL), record.getMessage(), exc_info=error
        )

import io
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from runtime.logs import configure_logs, get_logger, without_secrets


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    configure_logs("agent", level="info", stream=stream)
    return stream


def failing(message: str) -> None:
    raise OSError(message)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_in_a_pod_is_json_with_time_level_and_component(stream: io.StringIO) -> None:
    get_logger().info("fill started", key="52a2d80d4bc5fa16", bytes=5)
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "fill started",
        "level": "info",
        "component": "agent",
        "key": "52a2d80d4bc5fa16",
        "bytes": 5,
    }


def test_a_line_on_a_terminal_is_key_value() -> None:
    stream = Terminal()
    configure_logs("agent", stream=stream)
    get_logger().info("fill started", path="a b")
    assert ' level=info component=agent event="fill started" path="a b"' in stream.getvalue()


def test_what_is_less_important_is_not_written(stream: io.StringIO) -> None:
    get_logger().debug("why not")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://h/a?X-Sig=1&b=2", "https://h/a?***"),
        ("https://user:pass@h/a", "https://***@h/a"),
        ("https://h/a#token", "https://h/a?***"),
        ('get "https://h/a?x=1" failed', 'get "https://h/a?***" failed'),
        ("https://u@h/a?b and s3://b/c?d", "https://***@h/a?*** and s3://b/c?***"),
        ("hf://o/m:main, why? not a URL", "hf://o/m:main, why? not a URL"),
    ],
)
def test_a_url_loses_what_may_hold_credentials(text: str, clean: str) -> None:
    assert without_secrets(text) == clean


def test_no_value_brings_a_secret_into_a_line(stream: io.StringIO) -> None:
    url = "https://u:p@h/a?hidden"
    log = get_logger()
    try:
        failing(url)
    except OSError as error:
        log.exception("failed", why=error, urls=[url], nested={"a": (url,)}, path=Path("/x"))
    logging.getLogger("library").warning("cannot reach %s", url)
    first, second = lines(stream)
    assert "hidden" not in stream.getvalue()
    assert "u:p" not in stream.getvalue()
    assert (first["why"], first["path"]) == ("https://***@h/a?***", "/x")
    assert "OSError: https://***@h/a?***" in first["exception"]
    assert (second["event"], second["level"]) == ("cannot reach https://***@h/a?***", "warning")


def test_a_text_that_cannot_be_encoded_does_not_break_a_line(stream: io.StringIO) -> None:
    get_logger().info("odd", name="\ud800 ü\n", number=2**70)
    assert stream.getvalue().isascii()
    (line,) = lines(stream)
    assert (line["name"], line["number"]) == ("\ud800 ü\n", 2**70)


def test_a_library_that_fails_tells_where(stream: io.StringIO) -> None:
    try:
        failing("x")
    except OSError:
        logging.getLogger("library").exception("failed")
    (line,) = lines(stream)
    assert line["logger"] == "library"
    assert "OSError: x" in line["exception"]


def test_a_thread_says_its_component_too(stream: io.StringIO) -> None:
    thread = threading.Thread(target=lambda: get_logger().info("from a thread"))
    thread.start()
    thread.join()
    assert lines(stream)[0]["component"] == "agent"

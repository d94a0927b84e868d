"""SIGTERM and SIGINT as events that threads wait on."""

import signal
import threading
from queue import SimpleQueue
from types import FrameType


def stop_on_signals(stop: threading.Event, wake: threading.Event) -> None:
    """Set both on SIGTERM or SIGINT.

    A thread does it: a handler interrupts code that may hold an event's lock, and would wait for it
    for ever.
    """
    asked: SimpleQueue[None] = SimpleQueue()

    def obey() -> None:
        asked.get()
        stop.set()
        wake.set()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        asked.put(None)

    threading.Thread(target=obey, name="stop", daemon=True).start()
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)

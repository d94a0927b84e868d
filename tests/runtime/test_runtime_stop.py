import subprocess
import sys


def test_a_signal_is_heard_whatever_the_program_is_at() -> None:
    script = """
import signal, threading
from runtime.stop import stop_on_signals
stop, wake = threading.Event(), threading.Event()
stop_on_signals(stop, wake)
with wake._cond, stop._cond:  # in the middle of a wait, a set or a clear
    signal.raise_signal(signal.SIGTERM)
stop.wait()
wake.wait()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)  # noqa: S603 - ours

"""A steady stream of predictor pods that are not made (dry runs), and what came back for each."""

import itertools
import threading
import time
from collections import Counter
from typing import Any, Self

from larder.contract import DECISION_ANNOTATION
from runtime.kube.client import KubeClient
from runtime.kube.errors import KubeError
from runtime.kube.paths import collection_path

THREADS = 8


class Admissions:
    """While it is entered, `rate` pods a second are tried, each as a request of its own."""

    def __init__(self, admin: KubeClient, pod: dict[str, Any], rate: int) -> None:
        self._admin, self._pod, self._rate = admin, pod, rate
        self._path = collection_path("v1", "pods", namespace=pod["metadata"]["namespace"])
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._try_on) for _ in range(THREADS)]
        self.outcomes: Counter[str] = Counter()
        """How many ended how: the webhook's decision, `unpatched`, or an error's text."""
        self.seconds = 0.0
        """How long it went on."""

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.seconds = time.monotonic() - self._began

    @property
    def count(self) -> int:
        return self.outcomes.total()

    def _try_on(self) -> None:
        while True:
            with self._lock:
                due = self._began + next(self._numbers) / self._rate
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            outcome = self._try()
            with self._lock:
                self.outcomes[outcome] += 1

    def _try(self) -> str:
        try:
            made = self._admin.create(self._path, self._pod, query=[("dryRun", "All")])
        except KubeError as error:
            return str(error)
        return str(made["metadata"]["annotations"].get(DECISION_ANNOTATION, "unpatched"))

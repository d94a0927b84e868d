"""Tests against a real API server, the one that KUBECONFIG names. They make what they need, in
namespaces of their own, and take it away again. `make test` leaves them out.
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.kube.client import KubeClient
from runtime.kube.paths import collection_path, object_path


@pytest.fixture(scope="session")
def admin() -> Iterator[KubeClient]:
    """A client that may do everything."""
    if not os.environ.get("KUBECONFIG"):
        pytest.fail("KUBECONFIG names no cluster")
    client = KubeClient.from_kubeconfig("larder-test", Path(os.environ["KUBECONFIG"]))
    yield client
    client.close()


@pytest.fixture
def namespace(admin: KubeClient) -> Iterator[str]:
    """A namespace for one test."""
    name = f"larder-test-{uuid.uuid4().hex[:8]}"
    admin.create(collection_path("v1", "namespaces"), {"metadata": {"name": name}})
    yield name
    admin.delete(object_path("v1", "namespaces", name))

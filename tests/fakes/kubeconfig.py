"""The file that says how a program of ours reaches the API server of a test."""

import json
from collections.abc import Mapping
from pathlib import Path


def write_kubeconfig(path: Path, cluster: Mapping[str, object], token: str = "") -> Path:
    """A kubeconfig of one cluster, `server` and what else a kubeconfig says of it, and one user."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": token} if token else {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    path.write_text(json.dumps(content))
    return path

"""The controller's settings: one declaration each, a flag and a variable `LARDER_CONTROLLER_…`."""

import platform
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from larder.layout import DEFAULT_ROOT
from runtime.settings import HostRoot, ProgramSettings

PROGRAM: Final = "larder-controller"


class Settings(ProgramSettings):
    """Makes and retires the claims by which pods of restricted namespaces read cached models."""

    model_config = SettingsConfigDict(env_prefix="LARDER_CONTROLLER_")

    kubeconfig: Path | None = None
    """How to reach the cluster from outside of a pod."""
    cache_root: HostRoot = DEFAULT_ROOT
    """The agents' cache root: where the slots are on every node. The admission policies say it,
    too: where they say another, no claim is made."""
    instance: Annotated[str, Field(min_length=1, max_length=200)] = platform.node()
    """What this replica is called in the Lease and in Events; a pod's host name is its name."""
    retire_after: Annotated[float, Field(ge=0, le=86400)] = 300.0
    """Seconds between marking a claim that nobody should have and deleting it: longer than a
    webhook takes to notice that its watch is out of touch."""
    writers: Annotated[int, Field(ge=1, le=64)] = 8
    """Requests that are under way at once: 20,000 objects take minutes one by one."""
    port: Annotated[int, Field(ge=0, le=65535)] = 9465
    """The TCP port of probes and metrics; 0 lets the system choose."""
    host: str = "0.0.0.0"  # noqa: S104 - the kubelet and scrapes call the pod's address
    """The address to listen on."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines that are written."""

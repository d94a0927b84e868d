"""The webhook's settings: one declaration each, as a flag and as a variable `LARDER_WEBHOOK_…`."""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from larder.layout import DEFAULT_ROOT
from runtime.settings import HostRoot, ProgramSettings
from webhook.mutation import VolumeMode

PROGRAM: Final = "larder-webhook"


class Settings(ProgramSettings):
    """Points the pods of KServe's predictors at the models their node has cached."""

    model_config = SettingsConfigDict(env_prefix="LARDER_WEBHOOK_")

    catalog: Path | None = None
    """The catalog's file. It may come later: not ready until it was read. Without it the webhook is
    one of a cluster: catalog and namespaces are those of the API server."""
    kubeconfig: Path | None = None
    """How to reach the cluster from outside of a pod."""
    tls_cert: Path | None = None
    """The serving certificate with its chain, PEM; the API server talks TLS only. Without it, one
    of a cluster makes and renews its own. The file is read again every 30 seconds."""
    tls_key: Path | None = None
    """The certificate's private key, PEM, without a passphrase."""
    port: Annotated[int, Field(ge=0, le=65535)] = 9443
    """The TCP port, above 1024 so that no root is needed; 0 lets the system choose."""
    host: str = "0.0.0.0"  # noqa: S104 - the API server calls the pod's address
    """The address to listen on."""
    cache_root: HostRoot = DEFAULT_ROOT
    """The agents' cache root: where the slots are on every node."""
    volumes: Literal["HostPath", "ByNamespace"] | None = None
    """Where pods get hostPath volumes: everywhere (the default with --catalog), or where the
    namespace's labels allow it (the default in a cluster)."""
    stop_delay: Annotated[float, Field(ge=0, le=60)] = 0.0
    """Seconds between failing readiness and closing, for the API server to notice; without other
    replicas there is nobody else to ask."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines that are written; debug has those of pods on their way."""

    @model_validator(mode="after")
    def _knows_its_certificate(self) -> Self:
        missing = [self.tls_cert, self.tls_key].count(None)
        if missing == 1 or (missing and self.catalog):
            raise ValueError(
                "a certificate is missing; accepted: --tls-cert and --tls-key, or neither of them"
                " for one of a cluster"
            )
        return self

    @property
    def volume_mode(self) -> VolumeMode:
        """`volumes` as the decision takes it."""
        if self.volumes is not None:
            return VolumeMode(self.volumes)
        return VolumeMode.BY_NAMESPACE if self.catalog is None else VolumeMode.HOST_PATH

"""The agent's settings: each with its unit, default and reason; a flag and a variable each."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, field_validator
from pydantic_settings import CliToggleFlag, NoDecode, SettingsConfigDict

from larder.quantities import Share, parse_share
from runtime.settings import ProgramSettings


def _absolute(path: Path) -> Path:
    return path.absolute()


def _share(value: object) -> object:
    return parse_share(str(value)) if type(value) in {int, str} else value


class AgentSettings(ProgramSettings):
    """Keep on this node's disk the models that the catalog lists for it."""

    model_config = SettingsConfigDict(
        env_prefix="LARDER_AGENT_",
        cli_avoid_json=True,
        arbitrary_types_allowed=True,
    )

    catalog: Annotated[Path, AfterValidator(_absolute)] | None = None
    """File with the catalog, read again when it changes. Without it the agent is one of a cluster:
    catalog, node, pods and Secrets are those of the API server, which it reports to."""
    kubeconfig: Path | None = None
    """How to reach the cluster from outside of a pod."""
    cache_root: Annotated[Path, AfterValidator(_absolute)]
    """Directory that holds the models; this agent's alone."""
    node_name: str = Field(min_length=1, max_length=241)
    """Name of this node."""
    node_label: Annotated[list[str], NoDecode] = Field(default=[])
    """A label of this node, key=value, with --catalog; node groups choose by them. May be
    repeated."""
    budget: Annotated[Share | None, BeforeValidator(_share)] = None
    """Most that models may take, like 50Gi or 80%; a node group's smaller budget holds."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """TCP port of /metrics; 0 serves none."""
    metrics_host: str = "127.0.0.1"
    """Address of /metrics; in a pod 0.0.0.0, since a scraper is another machine."""
    stall_seconds: float = Field(default=60.0, gt=0)
    """A fill without progress for so long is killed and tried again (pods wait as long)."""
    fill_memory: int = Field(default=1024, ge=64)
    """MiB of memory that a fill's process may take before it is killed."""
    allow_any_disk: CliToggleFlag[bool] = False
    """Accept a cache root on the machine's own disk, which a full cache would fill."""
    once: CliToggleFlag[bool] = False
    """End when nothing is left but retries: status 0 if every model of this node is Ready."""
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    """debug, info, warning or error."""

    @field_validator("node_label", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """A variable holds several labels with commas between them."""
        return value.split(",") if isinstance(value, str) else value

    @field_validator("node_label")
    @classmethod
    def _pairs(cls, value: list[str]) -> list[str]:
        for label in value:
            key, equals, _ = label.partition("=")
            if not key or not equals:
                raise ValueError(f"{label!r} is not a label; accepted: key=value")
        return value

    @property
    def labels(self) -> dict[str, str]:
        """The node's labels."""
        return dict(label.split("=", 1) for label in self.node_label)

"""The catalog: the one document an admin edits.

`Catalog` and its parts are both the document's schema and the values the programs use: frozen,
with the document's camelCase keys as aliases. `read_catalog` is the only way in: every mistake of
a document is in one `CatalogError`, each with line, path and what is accepted; rules that span
several fields or entries are in `larder.catalog_rules`.
"""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import GenerateJsonSchema

from larder import catalog_sentences as sentences
from larder.errors import CatalogError
from larder.identity import Identity, identity_of
from larder.layout import Key
from larder.quantities import (
    Share,
    format_duration,
    format_share,
    parse_duration,
    parse_quantity,
    parse_share,
)
from larder.storage_uri import DEFAULT_ENDPOINTS, scheme_of
from larder.yaml_tree import Path, YamlFault, YamlValue, read_yaml

API_VERSION: Final = "larder.dev/v1alpha1"
KIND: Final = "Catalog"
ANY_ENDPOINT: Final = "any"
ANY_NAMESPACE: Final = "*"
DEFAULT_BUDGET: Final = Share(percent=80.0)
_STAND_INS: Final = {"name": "x", "storageUri": "hf://x/x", "namespaces": ["x"]}


def _text(value: object) -> object:
    """A plain number where text is meant is text (`revision: 1234567`)."""
    return str(value) if type(value) is int else value


def _written(value: object) -> str:
    """A value as the document has it, for a parser that then says what is accepted."""
    return value if isinstance(value, str) else json.dumps(value)


Text = Annotated[str, BeforeValidator(_text)]
Bytes = Annotated[
    int,
    BeforeValidator(lambda v: parse_quantity(_written(v)), json_schema_input_type=str | int),
]
Seconds = Annotated[
    float, BeforeValidator(lambda v: parse_duration(_written(v)), json_schema_input_type=str)
]
Amount = Annotated[
    Share, BeforeValidator(lambda v: parse_share(_written(v)), json_schema_input_type=str)
]
Percent = Annotated[int, Field(ge=1, le=100)]
Count = Annotated[int, Field(ge=1, le=64)]
Name = Annotated[
    str,
    BeforeValidator(_text),
    Field(min_length=1, max_length=63, pattern=sentences.NAME_PATTERN),
]


class _Part(BaseModel):
    """A part of the document: unknown keys are refused, nothing changes after reading."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        extra="forbid",
        frozen=True,
        strict=True,
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
        use_attribute_docstrings=True,
    )


T = TypeVar("T", bound=_Part)


class Eviction(_Part):
    """When room is made, in the kubelet's words."""

    high_threshold_percent: Percent = 90
    """Above this share of the budget, models that may go are evicted …"""
    low_threshold_percent: Percent = 80
    """… until usage is below this one."""
    min_age: Seconds = Field(default=600.0)
    """A model younger than this is not evicted to make room."""


class BandwidthHours(_Part):
    """A limit that holds between two times of day of the node's clock."""

    from_: Text = Field(alias="from", pattern=sentences.TIME_OF_DAY_PATTERN)
    to: Text = Field(pattern=sentences.TIME_OF_DAY_PATTERN)
    rate: Bytes


class Fills(_Part):
    """How much a node fills at once."""

    max_concurrent: Count = 2
    max_bandwidth: Annotated[
        Annotated[Bytes, Tag("(bytes)")] | Annotated[list[BandwidthHours], Tag("(hours)")],
        Discriminator(lambda value: "(hours)" if isinstance(value, list) else "(bytes)"),
    ] = 0
    """Bytes a second, 0 = unlimited; or a list of hours."""
    xet_memory: Bytes = 0
    """Memory that hf-xet may take in each fill from a hub; 0 = it is not used."""


class Network(_Part):
    """How a source is reached."""

    proxy: Text = ""
    ca_bundle: Text = ""


class StorageInitializer(_Part):
    """One more image that may be taken for KServe's initializer."""

    repository: Text = Field(pattern=sentences.REPOSITORY_PATTERN)
    """The image without tag or digest."""
    entrypoint: Text = Field(pattern=sentences.ENTRYPOINT_PATTERN)
    """The program the image runs: an absolute path."""


class Defaults(_Part):
    """What holds where an entry says nothing."""

    join_timeout: Seconds = Field(default=1800.0)
    """The longest a pod waits for a fill."""
    unlisted_ttl: Seconds = Field(default=86400.0, alias="unlistedTTL")
    """How long a model stays after it left the catalog, unless room is needed."""
    eviction: Eviction = Eviction()
    fills: Fills = Fills()
    network: Network = Network()
    mode: Literal["Enforce", "Observe"] = "Enforce"
    """Observe decides and counts, and rewrites nothing."""
    storage_initializers: list[StorageInitializer] = Field(default=[])
    runtime_classes: list[Text] = Field(default=["nvidia"])
    """Pods of other runtime classes are left alone."""
    free_floor: Amount = Field(default=Share(percent=5.0))
    """Share of the filesystem that is never touched."""


class MatchExpression(_Part):
    """One requirement of a label selector."""

    key: Text
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[Text] = Field(default=[])

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels meet the requirement, as Kubernetes reads it."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels


class LabelSelector(_Part):
    """Kubernetes' label selector."""

    match_labels: dict[str, Text] = Field(default={})
    match_expressions: list[MatchExpression] = Field(default=[])

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels meet every requirement."""
        return all(labels.get(k) == v for k, v in self.match_labels.items()) and all(
            expression.matches(labels) for expression in self.match_expressions
        )


class NodeGroup(_Part):
    """Some of the agent nodes, and what they may hold."""

    name: Name
    node_selector: LabelSelector = LabelSelector()
    budget: Amount = Field(default=DEFAULT_BUDGET)


class Credentials(_Part):
    """What opens a source: a Secret, the agent's own identity, standalone a file or variable."""

    secret_name: Text | None = None
    workload_identity: bool = False
    """What the agent's pod or machine is at its cloud; never used for an entry that lacks this."""
    token_file: Text | None = None
    token_env: Text | None = None


class ModelEntry(_Part):
    """One model that nodes keep."""

    name: Name
    storage_uri: Text
    """Exactly what InferenceServices say."""
    revision: Text | None = Field(default=None, pattern=sentences.REVISION_PATTERN)
    """Required for hf://: a commit, or a branch (frozen at its first fill)."""
    node_groups: list[Text] = Field(default=[])
    """Empty: every agent node."""
    namespaces: list[Text] = Field(min_length=1)
    """Who may have it; `["*"]` says everyone, out loud."""
    public: bool = False
    """Needed for everyone to have what was fetched with credentials."""
    credentials: Credentials | None = None
    placement: Literal["Prefer", "Require"] = "Prefer"
    fill: Literal["Eager", "OnDemand"] = "Eager"
    retention: Literal["Evictable", "Pinned"] = "Evictable"
    priority: int = Field(default=0, ge=-1_000_000, le=1_000_000)
    """Higher fills first and is evicted last."""
    fetch_from: Text | None = None
    """URL of a mirror that the agent downloads from."""
    endpoint: Text | None = None
    """What pods must say in their endpoint variable; `any` accepts all."""
    allow_patterns: list[Text] = Field(default=[])
    ignore_patterns: list[Text] = Field(default=[])
    digest: Text | None = Field(default=None, pattern=sentences.DIGEST_PATTERN)
    """SHA-256 of the manifest, or of a single file."""
    max_size: Bytes | None = None
    network: Network | None = None

    @cached_property
    def identity(self) -> Identity:
        """Which bytes this entry is about."""
        return identity_of(
            self.storage_uri,
            endpoint=None if self.endpoint == ANY_ENDPOINT else self.endpoint,
            revision=self.revision,
            allow_patterns=self.allow_patterns,
            ignore_patterns=self.ignore_patterns,
        )

    @cached_property
    def key(self) -> Key:
        """The name of its slot."""
        return self.identity.key

    @property
    def fetch_endpoint(self) -> str:
        """Where the agent downloads from: `fetchFrom`, else the endpoint, else the default."""
        return (
            self.fetch_from
            or self.identity.endpoint
            or DEFAULT_ENDPOINTS.get(scheme_of(self.storage_uri), "")
        )

    def allows(self, namespace: str) -> bool:
        """Whether pods of a namespace may have this model."""
        return namespace in self.namespaces or ANY_NAMESPACE in self.namespaces


class Catalog(_Part):
    """The document."""

    api_version: Literal["larder.dev/v1alpha1"]
    kind: Literal["Catalog"]
    defaults: Defaults = Defaults()
    node_groups: list[NodeGroup] = Field(default=[])
    models: list[ModelEntry] = Field(default=[])

    def groups_of(self, node_labels: Mapping[str, str]) -> tuple[NodeGroup, ...]:
        """The node groups that choose a node."""
        return tuple(g for g in self.node_groups if g.node_selector.matches(node_labels))

    def models_of(self, node_labels: Mapping[str, str]) -> tuple[ModelEntry, ...]:
        """The entries that a node keeps, in document order."""
        groups = {g.name for g in self.groups_of(node_labels)}
        return tuple(m for m in self.models if not m.node_groups or groups & set(m.node_groups))


class _Schema(GenerateJsonSchema):
    """JSON schema in the document's words: defaults as an admin writes them, no made-up titles."""

    def encode_default(self, dft: Any) -> Any:
        match dft:
            case float():
                return format_duration(dft)
            case Share():
                return format_share(dft)
            case _Part():
                fields = type(dft).model_fields.items()
                return {f.alias or n: self.encode_default(getattr(dft, n)) for n, f in fields}
            case _:
                return super().encode_default(dft)

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False


def catalog_schema() -> dict[str, Any]:
    """The JSON schema that editors use."""
    schema = Catalog.model_json_schema(by_alias=True, schema_generator=_Schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def read_catalog(data: bytes, *, standalone: bool) -> Catalog:
    """Read and check a catalog. Raises `CatalogError` with every mistake, in document order.

    `standalone` accepts the credentials forms that name a file or variable of the agent; in a
    cluster an editor could send any file of the agent to any host with them.
    """
    try:
        tree = read_yaml(data)
    except YamlFault as fault:
        raise CatalogError((str(fault),)) from None
    if not isinstance(tree.value, dict):
        faults: list[tuple[Path, str]] = [((), f"is not a mapping with kind: {KIND}")]
        raise CatalogError(sentences.report(tree, faults))
    catalog, faults = _validate(Catalog, tree.value)
    faults += _rule_faults(tree.value, standalone=standalone)
    if catalog is None or faults or tree.faults:
        raise CatalogError(sentences.report(tree, faults))
    return catalog


def _rule_faults(document: dict[str, YamlValue], *, standalone: bool) -> list[tuple[Path, str]]:
    """What the rules say of the parts that are right by themselves."""
    from larder import catalog_rules as rules  # noqa: PLC0415 - it needs the types above

    defaults = document.get("defaults")
    eviction, _ = _validate(
        Eviction, defaults.get("eviction") if isinstance(defaults, dict) else {}
    )
    network, _ = _validate(Network, defaults.get("network") if isinstance(defaults, dict) else {})
    groups = _valid_items(NodeGroup, document.get("nodeGroups"))
    entries = _valid_items(ModelEntry, document.get("models"))
    broken = _broken_entries(document.get("models"))
    named = {key: _names(document.get(key)) for key in ("nodeGroups", "models")}
    return [
        *(rules.eviction_faults(eviction) if eviction else ()),
        *(rules.network_faults(("defaults", "network"), network) if network else ()),
        *(f for i, g in groups.items() for f in rules.group_faults(("nodeGroups", i), g)),
        *(
            f
            for i, e in entries.items()
            for f in rules.entry_faults(("models", i), e, standalone=standalone)
        ),
        *(
            f
            for i, (e, wrong) in broken.items()
            for f in rules.entry_faults(("models", i), e, standalone=standalone)
            if not _is_about(f[0], wrong)
        ),
        *rules.spanning_faults(named["nodeGroups"], named["models"], entries),
    ]


def _validate(model: type[T], value: object) -> tuple[T | None, list[tuple[Path, str]]]:
    try:
        return model.model_validate(value, by_alias=True, by_name=False), []
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        return None, [sentences.explain(model, detail) for detail in details]


def _valid_items(model: type[T], value: YamlValue) -> dict[int, T]:
    """The items of a list that are right by themselves, by index."""
    items = value if isinstance(value, list) else []
    parts = {i: _validate(model, item)[0] for i, item in enumerate(items)}
    return {i: part for i, part in parts.items() if part is not None}


def _broken_entries(value: YamlValue) -> dict[int, tuple[ModelEntry, frozenset[str]]]:
    """Entries with wrong or missing keys, as if these were right; the rules hold for the others."""
    items = value if isinstance(value, list) else []
    broken = {}
    for i, item in enumerate(items):
        if isinstance(item, dict):
            wrong = frozenset(str(path[0]) for path, _ in _validate(ModelEntry, item)[1] if path)
            missing = frozenset(_STAND_INS) - frozenset(item)
            kept = {key: v for key, v in item.items() if key not in wrong}
            entry, _ = _validate(ModelEntry, {**_STAND_INS, **kept})
            if entry is not None and (wrong or missing):
                broken[i] = (entry, wrong | missing)
    return broken


def _is_about(path: Path, wrong: frozenset[str]) -> bool:
    """Whether a rule's fault is about a key that is wrong, or about its absence."""
    key = path[2] if len(path) > 2 else "revision"  # noqa: PLR2004 - models, index, key
    if key == "revision":  # it is judged together with the URI
        return bool(wrong & {"revision", "storageUri"})
    return key in wrong


def _names(value: YamlValue) -> dict[int, str]:
    """The names in a list, of wrong items too: other items may rightly refer to them."""
    items = value if isinstance(value, list) else []
    names = {i: item.get("name") for i, item in enumerate(items) if isinstance(item, dict)}
    return {i: str(name) for i, name in names.items() if type(name) in {int, str}}

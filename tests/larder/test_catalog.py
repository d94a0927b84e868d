"""A catalog is read with every mistake in one report, each with line, path and what is accepted."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from larder.catalog import Catalog, Credentials, catalog_schema, read_catalog
from larder.catalog_rules import catalog_notes
from larder.errors import CatalogError
from larder.quantities import Share

ROOT = Path(__file__).parents[2]
HEAD = "apiVersion: larder.dev/v1alpha1\nkind: Catalog\n"
COMMIT = "0e9e39f249a16976918f6564b8830bc894c89659"
EXAMPLE = (ROOT / "examples/catalog.yaml").read_bytes()


def read(text: str, *, standalone: bool = True) -> Catalog:
    return read_catalog((HEAD + text).encode(), standalone=standalone)


def problems(text: str, *, standalone: bool = True) -> list[str]:
    with pytest.raises(CatalogError) as caught:
        read(text, standalone=standalone)
    return list(caught.value.problems)


def entry(more: str = "", name: str = "m", uri: str = "s3://b/m", namespaces: str = "[n]") -> str:
    return f"- {{name: {name}, storageUri: '{uri}', namespaces: {namespaces}{more}}}\n"


def models(*entries: str) -> str:
    return "models:\n" + "".join(entries)


def test_the_smallest_catalog_has_every_default() -> None:
    catalog = read("")

    assert catalog.models == []
    assert catalog.defaults.join_timeout == 1800
    assert catalog.defaults.unlisted_ttl == 86400
    assert catalog.defaults.eviction.min_age == 600
    assert catalog.defaults.free_floor == Share(percent=5)
    assert catalog.defaults.fills.max_bandwidth == 0
    assert catalog.defaults.runtime_classes == ["nvidia"]


def test_the_example_sets_every_key_there_is() -> None:
    document = yaml.safe_load(EXAMPLE)
    given_keys = {
        "Catalog": set(document),
        "Defaults": set(document["defaults"]),
        "NodeGroup": set().union(*document["nodeGroups"]),
        "ModelEntry": set().union(*document["models"]),
    }
    definitions = catalog_schema()["$defs"] | {"Catalog": catalog_schema()}

    assert given_keys == {name: set(definitions[name]["properties"]) for name in given_keys}


def test_the_example_loads_in_a_cluster_and_standalone() -> None:
    catalog = read_catalog(EXAMPLE, standalone=False)

    assert catalog == read_catalog(EXAMPLE, standalone=True)
    assert [m.name for m in catalog.models] == ["llama-3.1-8b", "qwen2-tokenizer"]
    assert catalog.node_groups[0].budget == Share(size_bytes=1500 * 2**30)
    assert catalog.models[1].max_size == 20 * 2**20


def test_the_example_says_the_defaults_that_hold_without_it() -> None:
    assert read_catalog(EXAMPLE, standalone=False).defaults == read("").defaults


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(
            "color: green",
            "line 3: color is an unknown key; accepted: apiVersion, "
            "defaults, kind, models, nodeGroups",
            id="an unknown key",
        ),
        pytest.param("a b: 1", "line 3: 'a b' is an unknown key", id="a key of two words"),
        pytest.param("(x): 1", "line 3: '(x)' is an unknown key", id="a key in parentheses"),
        pytest.param(
            "defaults: {mod: 1}",
            "line 3: defaults.mod is an unknown key; accepted: eviction, fills",
            id="an unknown default",
        ),
        pytest.param(
            "defaults: {fills: {maxBandwidth: [{when: 1}]}}",
            "line 3: defaults.fills.maxBandwidth[0].when is an unknown key; accepted: "
            "from, rate, to",
            id="an unknown key among hours",
        ),
        pytest.param(
            models(entry(", credentials: {token: x}")),
            "line 4: models[0].credentials.token is an unknown key; accepted: secretName, "
            "tokenEnv, tokenFile, workloadIdentity",
            id="an unknown kind of credentials",
        ),
        pytest.param(
            "models:\n- name: m",
            "line 4: models[0] lacks the required key 'namespaces'",
            id="no namespaces",
        ),
        pytest.param("models:", "line 3: models is not a list", id="models without any"),
        pytest.param("models: {a: b}", "line 3: models is not a list", id="models as a mapping"),
        pytest.param("models: [7]", "line 3: models[0] is not a mapping", id="a model as a number"),
        pytest.param("defaults:", "line 3: defaults is not a mapping", id="defaults without any"),
        pytest.param(
            "defaults: {mode: Off}",
            "line 3: defaults.mode is not accepted; accepted: 'Enforce' or 'Observe'",
            id="an unknown mode",
        ),
        pytest.param(
            "defaults: {joinTimeout: 30}",
            "line 3: defaults.joinTimeout is wrong: '30' is "
            "not a duration; accepted: 90s, 30m, 1h30m, 24h",
            id="a bare number of what",
        ),
        pytest.param(
            "defaults: {joinTimeout: [30m]}",
            "line 3: defaults.joinTimeout is wrong: '[\"30m\"]' is not a duration",
            id="a list of durations",
        ),
        pytest.param(
            "defaults: {freeFloor: 101%}",
            "line 3: defaults.freeFloor is wrong: '101%' is "
            "neither a quantity nor a percentage; accepted: 1500Gi, 80%",
            id="too much",
        ),
        pytest.param(
            "defaults: {fills: {maxConcurrent: 0}}",
            "line 3: defaults.fills.maxConcurrent is too small; accepted: 1 or more",
            id="no fills at all",
        ),
        pytest.param(
            "defaults: {fills: {maxConcurrent: 65}}",
            "line 3: defaults.fills.maxConcurrent is too large; accepted: up to 64",
            id="too many fills",
        ),
        pytest.param(
            "defaults: {fills: {maxConcurrent: many}}",
            "line 3: defaults.fills.maxConcurrent is not a whole number",
            id="a word as number",
        ),
        pytest.param(
            "defaults: {fills: {maxBandwidth: fast}}",
            "line 3: defaults.fills.maxBandwidth is wrong: 'fast' is not a quantity",
            id="a word as bandwidth",
        ),
        pytest.param(
            "defaults: {fills: {maxBandwidth: [{from: '8', to: '18:00', rate: 1Mi}]}}",
            "line 3: defaults.fills.maxBandwidth[0].from is not accepted; accepted: a time "
            "of day like 08:00, in quotes",
            id="an hour without minutes",
        ),
        pytest.param(
            "defaults: {storageInitializers: [{repository: 'r/i:t', entrypoint: bin}]}",
            "line 3: defaults.storageInitializers[0].entrypoint is not accepted; accepted: "
            "an absolute path without white space or '$'",
            id="a relative entrypoint",
        ),
        pytest.param(
            "defaults: {storageInitializers: [{repository: 'r/i:t', entrypoint: /bin}]}",
            "line 3: defaults.storageInitializers[0].repository is not accepted; accepted: "
            "an image without tag or digest",
            id="an image with a tag",
        ),
        pytest.param(
            "defaults: {eviction: {lowThresholdPercent: 90}}",
            "line 3: defaults.eviction."
            "lowThresholdPercent is not below highThresholdPercent; accepted: below 90",
            id="thresholds that meet",
        ),
        pytest.param(
            "nodeGroups: [{name: g, budget: lots}]",
            "line 3: nodeGroups[0].budget is wrong: 'lots' is neither a quantity nor",
            id="a word as budget",
        ),
        pytest.param(
            "nodeGroups: [{name: G}]",
            "line 3: nodeGroups[0].name is not accepted; "
            "accepted: lower-case letters, digits, '-' and '.'",
            id="an upper-case name",
        ),
        pytest.param(
            "nodeGroups: [{name: g}, {name: g}]",
            "line 3: nodeGroups[1].name 'g' is already the name of nodeGroups[0]",
            id="two groups of a name",
        ),
        pytest.param(
            "nodeGroups: [{name: g, nodeSelector: {matchExpressions: [{key: k, operator: In}]}}]",
            "line 3: nodeGroups[0].nodeSelector."
            "matchExpressions[0].values is empty, which operator In needs; accepted: a list",
            id="in nothing",
        ),
        pytest.param(
            "nodeGroups: [{name: g, nodeSelector: {matchExpressions: "
            "[{key: k, operator: Exists, values: [a]}]}}]",
            "line 3: nodeGroups[0]."
            "nodeSelector.matchExpressions[0].values is given, which operator Exists "
            "excludes; accepted: none",
            id="exists with values",
        ),
        pytest.param(
            "nodeGroups: [{name: g, nodeSelector: {matchLabels: [a]}}]",
            "line 3: nodeGroups[0].nodeSelector.matchLabels is not a mapping",
            id="labels as list",
        ),
        pytest.param(
            models(entry(", nodeGroups: [h100]")),
            "line 4: models[0].nodeGroups[0] 'h100' is not a node group; accepted: none is defined",
            id="no groups at all",
        ),
        pytest.param(
            "nodeGroups: [{name: g}, {name: a}]\n" + models(entry(", nodeGroups: [h]")),
            "line 5: models[0].nodeGroups[0] 'h' is not a node group; accepted: a, g",
            id="an unknown group",
        ),
        pytest.param(
            models(entry(), entry(uri="s3://b/2")),
            "line 5: models[1].name 'm' is already the name of models[0]",
            id="two models of a name",
        ),
        pytest.param(
            models(entry(name="''")), "line 4: models[0].name is empty", id="an empty name"
        ),
        pytest.param(
            models(entry(name="m" * 64)),
            "line 4: models[0].name is too long; accepted: up to 63 characters",
            id="a long name",
        ),
        pytest.param(
            models(entry(name="true")), "line 4: models[0].name is not text", id="a truth"
        ),
        pytest.param(
            models(entry(", public: maybe")),
            "line 4: models[0].public is neither true nor false",
            id="perhaps public",
        ),
        pytest.param(
            models(entry(namespaces="[]")),
            "line 4: models[0].namespaces is empty; accepted: 1 or more",
            id="nobody",
        ),
        pytest.param(
            models(entry(namespaces="[Team_A]")),
            "line 4: models[0].namespaces[0] 'Team_A' "
            "is not a namespace's name; accepted: names, or ['*'] alone",
            id="no namespace",
        ),
        pytest.param(
            models(entry(namespaces="[a, '*']")),
            "line 4: models[0].namespaces has '*' beside names; accepted: names, or ['*'] alone",
            id="everyone and a",
        ),
        pytest.param(
            models(entry(uri="pvc://c/m")),
            "line 4: models[0].storageUri scheme 'pvc' "
            "cannot be cached; accepted: hf, s3, gs, https",
            id="a claim",
        ),
        pytest.param(
            models(entry(uri="https://[x/m")),
            "line 4: models[0].storageUri names no file on a host; accepted: https://HOST/PATH",
            id="a broken host",
        ),
        pytest.param(
            models(entry(uri="hf://o/m")),
            "line 4: models[0] lacks 'revision', which hf:// "
            "needs; accepted: a commit, branch or tag",
            id="no revision",
        ),
        pytest.param(
            models(entry(", revision: v1")),
            "line 4: models[0].revision is for hf:// only; accepted: no revision",
            id="a revision of a bucket",
        ),
        pytest.param(
            models(entry(", revision: a/../b", uri="hf://o/m")),
            "line 4: models[0].revision holds '..'; accepted: a commit, branch or tag",
            id="two dots in a revision",
        ),
        pytest.param(
            models(entry(", revision: '-x'", uri="hf://o/m")),
            "line 4: models[0].revision is not accepted; accepted: a commit, branch or tag",
            id="an odd revision",
        ),
        pytest.param(
            models(entry(", digest: abc")),
            "line 4: models[0].digest is not accepted; "
            "accepted: sha256: and 64 lower-case hex digits",
            id="a short digest",
        ),
        pytest.param(
            models(entry(", maxSize: 1GB")),
            "line 4: models[0].maxSize is wrong: '1GB' is "
            "not a quantity; accepted: 500M, 1500Gi, 2Ti, 1e12",
            id="a size in GB",
        ),
        pytest.param(
            models(entry(", priority: 1000001")),
            "line 4: models[0].priority is too large; accepted: up to 1000000",
            id="too important",
        ),
        pytest.param(
            models(entry(", revision: r, placement: Require, fill: OnDemand", uri="hf://o/m")),
            "line 4: models[0].fill is OnDemand, which placement Require excludes; accepted: Eager",
            id="required",
        ),
        pytest.param(
            models(entry(", placement: Require", uri="https://h/m.zip")),
            "line 4: models[0].placement is Require, but no archive is filled without maxSize; "
            "accepted: Prefer, or maxSize",
            id="required of an archive that nobody measured",
        ),
        pytest.param(
            "defaults: {network: {proxy: 'proxy:3128'}}",
            "line 3: defaults.network.proxy is not a proxy; accepted: http://HOST:PORT",
            id="a proxy without scheme",
        ),
        pytest.param(
            models(entry(", network: {proxy: 'http://me:secret@proxy'}")),
            "line 4: models[0].network.proxy is not a proxy; accepted: http://HOST:PORT",
            id="a proxy with a password",
        ),
        pytest.param(
            models(entry(", network: {caBundle: ca.pem}")),
            "line 4: models[0].network.caBundle is not an absolute path; "
            "accepted: a file of the agent",
            id="a bundle somewhere",
        ),
        pytest.param(
            models(entry(", endpoint: 'https://h'", uri="https://h/m")),
            "line 4: models[0].endpoint is not for https://, whose URIs name a host; "
            "accepted: fetchFrom",
            id="an endpoint of a single file",
        ),
        pytest.param(
            models(entry(", endpoint: mirror")),
            "line 4: models[0].endpoint is not a URL; accepted: http://HOST or https://HOST",
            id="an endpoint without scheme",
        ),
        pytest.param(
            models(entry(", endpoint: 'http://[x'")),
            "line 4: models[0].endpoint is not a URL; accepted: http://HOST or https://HOST",
            id="a broken endpoint",
        ),
        pytest.param(
            models(entry(", fetchFrom: any")),
            "line 4: models[0].fetchFrom is not a URL; accepted: http://HOST or https://HOST",
            id="any mirror",
        ),
        pytest.param(
            models(entry(", allowPatterns: ['']")),
            "line 4: models[0].allowPatterns[0] is an empty pattern",
            id="an empty pattern",
        ),
        pytest.param(
            models(entry(", ignorePatterns: [a, '../*']")),
            "line 4: models[0]."
            "ignorePatterns[1] '../*' leaves the model; accepted: globs of paths inside it",
            id="a pattern that leaves",
        ),
        pytest.param(
            models(entry(", allowPatterns: ['/etc/*']")),
            "line 4: models[0].allowPatterns[0] '/etc/*' leaves the model",
            id="an absolute pattern",
        ),
        pytest.param(
            models(entry(', allowPatterns: ["a\\tb"]')),
            "line 4: models[0].allowPatterns[0] 'a\\tb' holds a control character",
            id="a tab in a pattern",
        ),
        *(
            pytest.param(
                models(entry(f", allowPatterns: ['{p}']")),
                f"line 4: models[0].allowPatterns[0] '{p}' opens a bracket and does not close it",
                id=f"the pattern {p}",
            )
            for p in ("[ab", "[]", "[!]", "a[bc]d[e")
        ),
        pytest.param(
            models(entry(", credentials: {}")),
            "line 4: models[0].credentials names 0 "
            "places; accepted: one of secretName, workloadIdentity, tokenFile, tokenEnv",
            id="no credentials",
        ),
        pytest.param(
            models(entry(", credentials: {workloadIdentity: false}", uri="s3://b/m")),
            "line 4: models[0].credentials names 0 places; accepted: one of secretName",
            id="an identity that is not to be used",
        ),
        pytest.param(
            models(entry(", credentials: {workloadIdentity: 1}", uri="s3://b/m")),
            "line 4: models[0].credentials.workloadIdentity is neither true nor false",
            id="an identity by number",
        ),
        pytest.param(
            models(entry(", credentials: {secretName: s, workloadIdentity: true}", uri="s3://b/m")),
            "line 4: models[0].credentials names 2 places; accepted: one of",
            id="a Secret and an identity",
        ),
        pytest.param(
            models(
                entry(", credentials: {workloadIdentity: true}", uri="https://h.example/m.gguf")
            ),
            "line 4: models[0].credentials.workloadIdentity "
            "is for s3://, gs:// and Azure blobs; accepted: secretName",
            id="an identity for a single file",
        ),
        pytest.param(
            models(entry(", credentials: {workloadIdentity: true}", namespaces="['*']")),
            "line 4: "
            "models[0].namespaces gives everyone what is fetched with credentials; say "
            "public: true, or name them",
            id="what the agent's identity opens, for everyone",
        ),
        pytest.param(
            models(entry(", credentials: {tokenFile: /t, tokenEnv: T}")),
            "line 4: models[0].credentials names 2 places; accepted: one of",
            id="two credentials",
        ),
        pytest.param(
            models(entry(", credentials: {tokenFile: ''}")),
            "line 4: models[0].credentials.tokenFile is empty",
            id="an empty token file",
        ),
        pytest.param(
            models(entry(", credentials: {tokenEnv: T}", namespaces="['*']")),
            "line 4: "
            "models[0].namespaces gives everyone what is fetched with credentials; say "
            "public: true, or name them",
            id="a gated model for everyone",
        ),
        pytest.param(
            models(entry(), entry(name="n", namespaces="[o]")),
            "line 5: models[1] has the identity of 'm'; name all namespaces in one entry",
            id="one identity twice",
        ),
        pytest.param(
            models(
                entry(", revision: v1", uri="hf://o/m"),
                entry(", revision: v2", uri="HF://o/m/", name="n", namespaces="['*']"),
            ),
            "line 5: models[1] could match the same pods as 'm' (namespaces: n)",
            id="two revisions for one pod",
        ),
        pytest.param(
            models(
                entry(", revision: v1", uri="hf://o/m", namespaces="['*']"),
                entry(", revision: v2", uri="hf://o/m", name="n", namespaces="[b, a]"),
            ),
            "line 5: models[1] could match the same pods as 'm' (namespaces: a, b)",
            id="everyone and two",
        ),
        pytest.param(
            models(
                entry(", endpoint: any, allowPatterns: [a]"),
                entry(", endpoint: 'http://x'", name="n", namespaces="[n, o]"),
            ),
            "line 5: models[1] could match the same pods as 'm' (namespaces: n)",
            id="any endpoint and another",
        ),
    ],
)
def test_a_mistake_is_one_sentence_with_its_line(text: str, found: str) -> None:
    assert any(sentence.startswith(found) for sentence in problems(text)), problems(text)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        pytest.param(b"", "line 1: the catalog is not a mapping with kind: Catalog", id="empty"),
        pytest.param(
            b"- a", "line 1: the catalog is not a mapping with kind: Catalog", id="a list"
        ),
        pytest.param(
            b"!!python/object:os.x {}",
            "line 1: tag 'tag:yaml.org,2002:python/object:os.x' is not accepted",
            id="a Python object",
        ),
        pytest.param(
            b"{}", "line 1: the catalog lacks the required key 'apiVersion'", id="nothing"
        ),
        pytest.param(
            b"kind: Catalog\napiVersion: v1",
            "line 2: apiVersion is not accepted; accepted: 'larder.dev/v1alpha1'",
            id="another version",
        ),
        pytest.param(
            b"x" * (10 * 1024 * 1024),
            "the file has 10485760 bytes; accepted: up to 1048576",
            id="ten megabytes",
        ),
        pytest.param(b"[" * 30_000, "line 1: nested deeper than 20 levels", id="brackets"),
        pytest.param(b"a: \xff", "line 1: byte 3 is not UTF-8", id="invalid UTF-8"),
    ],
)
def test_what_is_no_catalog_is_one_sentence(data: bytes, found: str) -> None:
    with pytest.raises(CatalogError) as caught:
        read_catalog(data, standalone=True)

    assert caught.value.problems[0] == found


def test_every_mistake_is_in_one_report_in_document_order() -> None:
    found = problems(
        "defaults:\n  mode: Off\n  mode: Observe\n  eviction: {lowThresholdPercent: 95}\n"
        "nodeGroups:\n- name: g\n  budget: lots\n"
        + models(
            entry(", nodeGroups: [g, h]"),
            entry(", color: green"),
            entry(", endpoint: mirror", uri="s3://b/3"),
        )
    )

    assert [sentence.split(" ")[1:3] for sentence in found] == [
        ["4:", "defaults.mode"],
        ["5:", "key"],
        ["6:", "defaults.eviction.lowThresholdPercent"],
        ["9:", "nodeGroups[0].budget"],
        ["11:", "models[0].nodeGroups[1]"],
        ["12:", "models[1].color"],
        ["12:", "models[1].name"],
        ["13:", "models[2].endpoint"],
        ["13:", "models[2].name"],
    ]


@pytest.mark.parametrize("kind", ["tokenFile", "tokenEnv"])
def test_a_token_of_the_agents_own_is_for_standalone_use(kind: str) -> None:
    text = models(entry(f", credentials: {{{kind}: x}}"))

    assert read(text).models[0].credentials
    refused = f"line 4: models[0].credentials.{kind} is for standalone use"
    accepted = "secretName, workloadIdentity"
    assert problems(text, standalone=False) == [f"{refused}; accepted in a cluster: {accepted}"]
    assert problems(models(entry(", credentials: {}")), standalone=False) == [
        f"line 4: models[0].credentials names 0 places; accepted: one of {accepted}"
    ]


@pytest.mark.parametrize("standalone", [True, False])
@pytest.mark.parametrize("uri", ["s3://b/m", "gs://b/m", "https://a.blob.core.windows.net/c/m"])
def test_the_agents_own_identity_opens_what_asks_for_it(uri: str, *, standalone: bool) -> None:
    text = models(entry(", credentials: {workloadIdentity: true}", uri=uri))
    (model,) = read(text, standalone=standalone).models
    assert model.credentials == Credentials(workload_identity=True)
    (without,) = read(models(entry(uri=uri)), standalone=standalone).models
    assert without.credentials is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(", revision: v1", ", revision: v2, namespaces: [o]", id="other namespaces"),
        pytest.param(
            ", revision: v1", ", revision: v1, endpoint: 'http://x'", id="another endpoint"
        ),
    ],
)
def test_entries_of_a_uri_that_no_pod_confuses_stand_side_by_side(first: str, second: str) -> None:
    head = "- {name: %s, storageUri: 'hf://o/m'"
    text = models(head % "a" + ", namespaces: [n]" + first + "}\n", head % "b" + second
                  + ("" if "namespaces" in second else ", namespaces: [n]") + "}\n")  # fmt: skip

    assert len({m.key for m in read(text).models}) == 2


@pytest.mark.parametrize("pattern", ["*.json", "[]a]", "[!]a]", "a[bc]d[!e]", "dir/", "**", "a]b"])
def test_globs_are_as_fnmatch_reads_them(pattern: str) -> None:
    assert read(models(entry(f", allowPatterns: ['{pattern}']"))).models[0].allow_patterns


def test_bandwidth_is_bytes_or_hours() -> None:
    hours = "[{from: '08:00', to: '18:00', rate: 200Mi}]"
    fills = read(f"defaults: {{fills: {{maxBandwidth: {hours}}}}}").defaults.fills

    assert isinstance(fills.max_bandwidth, list)
    assert (fills.max_bandwidth[0].from_, fills.max_bandwidth[0].rate) == ("08:00", 200 * 2**20)
    assert read("defaults: {fills: {maxBandwidth: 1Mi}}").defaults.fills.max_bandwidth == 2**20


def test_hf_xet_is_off_unless_it_is_given_memory() -> None:
    assert read("defaults: {fills: {xetMemory: 512Mi}}").defaults.fills.xet_memory == 512 * 2**20
    assert read("defaults: {}").defaults.fills.xet_memory == 0


def test_a_number_where_text_is_meant_is_text() -> None:
    assert (
        read(models(entry(", revision: 1234567", uri="hf://o/m"))).models[0].revision == "1234567"
    )


def test_a_report_has_an_end() -> None:
    found = problems(models(*["- 7\n"] * 5000))

    assert len(found) == 101
    assert found[-1] == "and 4900 more mistakes"


def test_a_sentence_has_an_end_and_keeps_what_is_accepted() -> None:
    (sentence,) = problems(f"defaults: {{joinTimeout: {'9' * 10_000}}}")

    assert len(sentence) < 700
    assert sentence.endswith("accepted: 90s, 30m, 1h30m, 24h")


def test_entries_of_one_uri_have_a_limit() -> None:
    entries = [entry(f", revision: v{i}", f"m{i}", "hf://o/m", f"[n{i}]") for i in range(101)]

    assert len(read(models(*entries[:100])).models) == 100
    assert problems(models(*entries)) == [
        "line 104: models[100].storageUri is in 101 entries; accepted: up to 100"
    ]


words = st.text(max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
PLACES = (
    ["defaults"], ["defaults", "fills"], ["defaults", "fills", "maxBandwidth"], ["nodeGroups"],
    ["nodeGroups", 0, "nodeSelector"], ["nodeGroups", 0, "budget"], ["models"], ["models", 0],
    ["models", 0, "storageUri"], ["models", 0, "endpoint"], ["models", 0, "namespaces"],
    ["models", 0, "credentials"], ["models", 0, "allowPatterns"], ["models", 0, "revision"],
)  # fmt: skip


@given(st.sampled_from(PLACES), json_values)
def test_any_value_anywhere_is_accepted_or_a_report(place: list[Any], value: Any) -> None:
    document: Any = yaml.safe_load(EXAMPLE)
    target = document
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    try:
        read_catalog(json.dumps(document).encode(), standalone=True)
    except CatalogError as error:
        assert error.problems
        assert not [p for p in error.problems if "\n" in p or "instance of" in p or "Input" in p]


def test_the_schema_for_editors_accepts_the_example_and_refuses_what_the_reader_refuses() -> None:
    schema = catalog_schema()
    validator = jsonschema.Draft202012Validator(schema)
    document = yaml.safe_load(EXAMPLE)

    validator.check_schema(schema)
    validator.validate(document)
    assert list(validator.iter_errors(document | {"color": "green"}))
    assert list(validator.iter_errors(document | {"kind": "Cat"}))


def test_the_schema_says_defaults_as_an_admin_writes_them() -> None:
    definitions = catalog_schema()["$defs"]

    def default(part: str, key: str) -> Any:
        return definitions[part]["properties"][key]["default"]

    assert default("Defaults", "joinTimeout") == "30m"
    assert default("Defaults", "unlistedTTL") == "24h"
    assert default("Defaults", "freeFloor") == "5%"
    assert default("Defaults", "eviction")["minAge"] == "10m"
    assert default("NodeGroup", "budget") == "80%"
    assert default("ModelEntry", "placement") == "Prefer"


def test_an_archive_whose_entry_says_what_it_may_hold_is_like_others() -> None:
    text = models(entry(", maxSize: 1Gi, placement: Require", uri="https://h/m.zip"))
    assert catalog_notes(read(text)) == ()


def test_a_good_catalog_has_no_notes() -> None:
    assert catalog_notes(read(models(entry(f", revision: {COMMIT}", uri="hf://o/m")))) == ()


@pytest.mark.parametrize(
    ("text", "note"),
    [
        *(
            (models(entry(uri=uri)), "model 'm': an archive is not filled without maxSize")
            for uri in ("https://h/m.zip", "s3://b/m.tar.gz")
        ),
        (
            models(entry(", revision: main", uri="hf://o/m")),
            "model 'm': revision 'main' is no commit",
        ),
        (models(entry(", fill: OnDemand")), "model 'm': fill OnDemand has no effect yet"),
        (
            models(entry(", credentials: {secretName: x}")),
            "model 'm': credentials.secretName has no effect outside a cluster",
        ),
        (
            models(entry(", public: true, credentials: {tokenEnv: T}", namespaces="['*']")),
            "model 'm': everyone gets what is fetched with credentials (public: true)",
        ),
    ],
)
def test_what_an_admin_should_know_is_a_note(text: str, note: str) -> None:
    assert [n for n in catalog_notes(read(text)) if n.startswith(note)]


def test_a_secret_is_noted_only_where_it_has_no_effect() -> None:
    uri, secret = "hf://o/m", f", revision: {COMMIT}, credentials: {{secretName: s}}"
    catalog = read(models(entry(secret, uri=uri)))
    assert len(catalog_notes(catalog, standalone=True)) == 1
    assert catalog_notes(catalog, standalone=False) == ()


@pytest.mark.parametrize(
    ("keys", "mistakes"),
    [
        pytest.param(
            {"fill": "Later", "storageUri": "ftp://x/y"},
            ["models[0].fill", "models[0].storageUri"],
            id="a word and a URI",
        ),
        pytest.param(
            {"storageUri": ["x"], "revision": "v1", "endpoint": "nowhere"},
            ["models[0].endpoint", "models[0].storageUri"],
            id="a URI that is a list says nothing about the revision",
        ),
        pytest.param(
            {"revision": {"a": "b"}, "namespaces": ["Chat"]},
            ["models[0].namespaces[0]", "models[0].revision"],
            id="a revision that is a mapping is not missing, too",
        ),
        pytest.param(
            {"colour": "red", "namespaces": None, "allowPatterns": [""]},
            ["models[0].allowPatterns[0]", "models[0].colour", "models[0].namespaces"],
            id="an unknown key, no namespaces, an empty pattern",
        ),
    ],
)
def test_a_wrong_key_hides_no_other_mistake_of_its_entry(
    keys: dict[str, object], mistakes: list[str]
) -> None:
    entry = {"name": "a", "storageUri": "hf://o/m", "revision": "v1", "namespaces": ["chat"]}
    document = {"apiVersion": "larder.dev/v1alpha1", "kind": "Catalog", "models": [entry | keys]}
    with pytest.raises(CatalogError) as caught:
        read_catalog(json.dumps(document).encode(), standalone=True)
    told = [problem.split(": ", 1)[1].split(" ", 1)[0] for problem in caught.value.problems]
    assert sorted(told) == mistakes

"""`larder doctor` as a whole: a healthy install is fine, what may not be read is named."""

import json
from pathlib import Path

import pytest
from cli_cases import ACTING, larder, shape_fault
from doctor_world import LLAMA, Install

from cli.doctor import CHECKS, JSON_EXAMPLE
from cli.doctor_findings import APPLY, Check, Cluster, What, findings_of, named
from cli.doctor_install import SHIPPED
from cli.doctor_reads import TARGETS
from larder.node_report import ModelReport, NodeReport
from larder.status import ModelState
from tests.fakes.kubeconfig import write_kubeconfig
from tests.runtime.kube.api_server import ApiServer, refusing


def test_a_healthy_install_is_ok_in_every_check(install: Install) -> None:
    assert install.found() == []
    run = install.doctor()
    assert (run.status, run.err) == (0, "")
    assert run.out.splitlines()[-1] == f"{len(CHECKS)} ok"
    assert len(run.out.splitlines()) <= 30


def test_the_document_has_the_shape_of_the_example(install: Install) -> None:
    install.remove("deployments", "larder-webhook")
    run = install.doctor("-o", "json")
    assert run.status == 1
    assert shape_fault(run.json, json.loads(JSON_EXAMPLE)) is None
    assert (run.json["isBroken"], run.json["version"]) == (True, "v1.34.1")


def test_what_is_broken_is_status_1_with_a_cure_and_a_warning_is_status_0(install: Install) -> None:
    install.the("deployments", "larder-webhook")["status"]["readyReplicas"] = 1
    run = install.doctor()
    assert run.status == 0
    lines = [line.split() for line in run.out.splitlines()]
    assert ["deployments", "warning", "1", "of", "2", "replicas"] in [line[:6] for line in lines]
    install.the("deployments", "larder-webhook")["status"]["readyReplicas"] = 0
    run = install.doctor()
    assert run.status == 1
    assert "new pods start without the cache" in run.out
    assert "kubectl -n larder-system describe deployment larder-webhook" in run.out
    assert run.out.splitlines()[-1] == f"{len(CHECKS) - 1} ok, 1 broken"


def test_a_cure_of_several_is_printed_once(install: Install) -> None:
    for name in SHIPPED:
        install.remove("validatingadmissionpolicies", name, "")
    run = install.doctor()
    assert run.out.count("is not there") == len(SHIPPED)
    assert run.out.count(APPLY) == 1


def test_an_install_is_only_read(install: Install) -> None:
    install.doctor()
    assert {seen.method for seen in install.server.seen} == {"GET"}


def test_of_secrets_with_tokens_only_metadata_is_read(install: Install) -> None:
    install.doctor()
    path = TARGETS[What.CREDENTIALS].path
    accepted = {s.headers["accept"] for s in install.server.seen if s.path == path}
    assert all("PartialObjectMetadataList" in accept for accept in accepted)
    assert accepted


@pytest.mark.parametrize("what", TARGETS)
def test_what_may_not_be_listed_is_named_and_is_no_fault(install: Install, what: What) -> None:
    install.server.standing["GET", TARGETS[what].path] = refusing(403, "Forbidden")
    run = install.doctor("-o", "json")
    unchecked = [f for f in run.json["findings"] if f["verdict"] != "ok"]
    assert run.status == 0
    assert {f["verdict"] for f in unchecked} == {"not checked"}
    assert {f["sentence"] for f in unchecked} <= {
        f"may not list {w}" for w in TARGETS if TARGETS[w].path == TARGETS[what].path
    }


def test_who_may_read_nothing_is_told_so_in_every_line(install: Install) -> None:
    for target in TARGETS.values():
        install.server.standing["GET", target.path] = refusing(403, "Forbidden")
    for path in ("/version", "/apis/serving.kserve.io"):
        install.server.standing["GET", path] = refusing(403, "Forbidden")
    run = install.doctor()
    assert (run.status, run.err) == (0, "")
    assert run.out.splitlines()[-1] == f"{len(CHECKS)} not checked"
    assert "may not list nodes" in run.out


def test_an_api_server_that_is_away_or_fails_is_one_sentence(install: Install) -> None:
    install.server.standing["GET", "/api/v1/nodes"] = refusing(503)
    run = install.doctor()
    assert (run.status, run.out) == (2, "")
    assert run.err == "larder: GET /api/v1/nodes: answered 503\n"
    install.server.tokens = set()
    assert install.doctor().err == "larder: GET /version: our credentials are not accepted\n"
    install.server.stop()
    try:
        run = install.doctor()
    finally:
        install.server.start()
    assert (run.status, run.out) == (2, "")
    assert run.err == "larder: GET /version: the API server cannot be reached\n"


def test_a_kubeconfig_that_is_none_is_wrong_use(tmp_path: Path) -> None:
    run = larder("doctor", "--kubeconfig", tmp_path / "none")
    assert (run.status, run.out, run.err.count("\n")) == (2, "", 1)


def test_before_an_install_nothing_but_the_cluster_is_fine(tmp_path: Path) -> None:
    server = ApiServer()
    try:
        server.discovery["/version"] = {"gitVersion": "v1.30.2-eks-1"}
        config = write_kubeconfig(tmp_path / "kubeconfig", {"server": server.host})
        run = larder("doctor", "--kubeconfig", config, "-o", "json")
    finally:
        server.stop()
    assert run.status == 1
    verdicts = {f["check"]: f["verdict"] for f in run.json["findings"]}
    assert verdicts["kubernetes"] == "ok"
    assert verdicts["policies"] == verdicts["deployments"] == verdicts["webhooks"] == "broken"
    assert verdicts["models"] == "not checked"


def test_no_path_key_or_token_is_ever_shown(install: Install) -> None:
    install.secret(
        install.new_material(install.material.authorities[0].certificate.not_valid_before_utc)
    )
    for form in ("table", "json"):
        run = install.doctor("-o", form)
        assert "a" * 48 not in run.out
        assert "PRIVATE" not in run.out
        assert "c2VjcmV0" not in run.out


def test_what_a_cluster_says_cannot_act_on_a_terminal(install: Install) -> None:
    model = ModelReport(LLAMA, "x", ModelState.FAILED, reason="\x1b[2J", message="[red]\u202e\n")
    install.report(NodeReport("gpu-1", models=(model,)))
    for form in ("table", "json"):
        run = install.doctor("-o", form)
        assert ACTING.search(run.out) is None
        assert "[red]" in run.out


@pytest.mark.parametrize("part", ["status", "data", "webhooks", "spec"])
def test_an_object_that_lacks_what_it_may_lack_is_no_crash(install: Install, part: str) -> None:
    for content in install.server.world.objects.values():
        content.pop(part, None)
    run = install.doctor()
    assert (run.status, run.err) == (1, "")


def test_an_argument_that_the_webhook_refuses_is_no_crash(install: Install) -> None:
    odd = ("--volumes=Everywhere", "--cache-root=/var/lib/larder")
    install.run_with("deployments", "larder-webhook", *odd)
    assert install.doctor().err == ""


def test_a_sentence_names_three_and_counts_the_rest(install: Install) -> None:
    assert named("cab") == "a, b, c"
    assert named("dcab") == "a, b, c and 1 more"
    for i in range(40):
        install.node(f"more-{i:02}")
        install.remove("pods", f"larder-agent-more-{i:02}")
    (found,) = install.found()
    assert found["sentence"].startswith("no agent runs on more-00, more-01, more-02 and 37 more")
    assert len(found["about"]) == 40


def test_a_check_that_does_not_say_what_it_needs_is_a_defect() -> None:
    cluster = Cluster(0.0, {}, {})
    check = Check("x", "fine", (), lambda seen: [seen.catalog])  # type: ignore[list-item]
    with pytest.raises(LookupError):
        list(findings_of([check], cluster))

"""The webhook over HTTP: the only file that knows FastAPI.

    POST /mutate-pods       an AdmissionReview of a pod (bodies are bounded)
    POST /validate-catalog  an AdmissionReview of a ConfigMap
                            (both in a cluster: below the unguessable admission path, else 404)
    POST /explain           in a cluster: why a pod is served or not, for who may read or make it
    GET  /livez             the process answers
    GET  /readyz            catalog and namespaces are known, and nobody asked to stop
    GET  /metrics           Prometheus' text format

The edge is asynchronous, the decision is not: it is pure and takes less time than a thread's turn.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final

import orjson
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.telemetry import TelemetryConfig
from starlette.requests import ClientDisconnect
from structlog.typing import FilteringBoundLogger

from larder.contract import DecisionReason
from runtime.clock import Clock
from runtime.logs import get_logger
from webhook.catalog_review import CatalogAnswer, serve_catalog_review
from webhook.explaining.answer import STATUS, Outcome
from webhook.explaining.answer import Answer as ExplainAnswer
from webhook.metrics import Metrics
from webhook.review import Answer, serve_review
from webhook.state import State

MUTATE_PODS: Final = "/mutate-pods"
VALIDATE_CATALOG: Final = "/validate-catalog"
MAX_BODY_BYTES: Final = 4 * 1024 * 1024  # the API server itself accepts objects of about 3 MiB
MAX_QUESTION_BYTES: Final = 128 * 1024  # a pod of 20 KiB is a large one
_TOO_LARGE: Final = "the body is too large; accepted: up to {} bytes"
_BEARER: Final = re.compile(r"Bearer ([!-~]+)", re.IGNORECASE)  # RFC 6750; no space, no control
_EXTRA: Final = {
    Outcome.UNAUTHENTICATED: {"WWW-Authenticate": "Bearer"},
    Outcome.BUSY: {"Retry-After": "1"},
}
_ANYBODYS: Final = frozenset(
    {Outcome.MALFORMED, Outcome.TOO_LARGE, Outcome.UNAUTHENTICATED, Outcome.BUSY}
)
"""Answers that anybody who reaches the port may cause; they are not worth a line each."""
Explain = Callable[[str, bytes], Awaitable[ExplainAnswer]]  # a token and a body
Endpoint = Callable[[Request], Awaitable[Response]]
_ROUTINE: Final = frozenset(
    {
        DecisionReason.NOT_A_PREDICTOR,
        DecisionReason.NO_STORAGE_INITIALIZER,
        DecisionReason.ALREADY_REWRITTEN,
    }
)
"""Answers that a pod gets on its way to another one; they are not worth a line each."""


NO_TELEMETRY: Final[TelemetryConfig] = {  # on by default, and it costs every request
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


def create_app(
    state: State, metrics: Metrics, clock: Clock, explain: Explain | None = None
) -> FastAPI:
    """The application; it opens and closes nothing. Without `explain`, `/explain` is not found."""
    log = get_logger().bind()  # bound once: the logger that is asked for binds at every line
    app = FastAPI(
        title="larder-webhook",
        openapi_url=None,
        redirect_slashes=False,  # to a host that the request names
        telemetry=NO_TELEMETRY,
    )

    async def mutate_pods(body: bytes) -> Response:
        start = clock.monotonic()
        answer = serve_review(body, state.view_of)
        content = orjson.dumps(answer.body)
        _record(answer, metrics, log)
        metrics.request_seconds.observe(clock.monotonic() - start)
        return Response(content, answer.status, media_type="application/json")

    async def validate_catalog(body: bytes) -> Response:
        answer = await asyncio.to_thread(serve_catalog_review, body, state.nodes)  # it may be large
        _record_edit(answer, metrics, log)
        return Response(orjson.dumps(answer.body), answer.status, media_type="application/json")

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def readyz(_: Request) -> Response:
        fault = state.readiness_fault
        return PlainTextResponse(fault or "ok", 503 if fault else 200)

    def show_metrics(_: Request) -> Response:  # not async: it runs in a thread
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    reviews = ((MUTATE_PODS, mutate_pods), (VALIDATE_CATALOG, validate_catalog))
    for endpoint, answer in reviews:
        for path in (endpoint, f"/{{path}}{endpoint}"):
            app.add_route(path, _to_reviews(answer, state), methods=["POST"])
    if explain:
        app.add_route("/explain", _to_questions(explain, metrics, log), methods=["POST"])
    app.add_route("/livez", livez)
    app.add_route("/readyz", readyz)
    app.add_route("/metrics", show_metrics)
    return app


def _to_reviews(answer: Callable[[bytes], Awaitable[Response]], state: State) -> Endpoint:
    """Answers bodies of a bounded size that come by the admission path; others are not found."""

    async def endpoint(request: Request) -> Response:
        if not state.is_admission_path(request.path_params.get("path", "")):
            raise HTTPException(404)
        try:
            body = await _bounded_body(request, MAX_BODY_BYTES)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        if body is None:
            return JSONResponse({"error": _TOO_LARGE.format(MAX_BODY_BYTES)}, 413)
        response = await answer(body)
        if state.is_stopping:  # the API server's next call goes to another replica
            response.headers["Connection"] = "close"
        return response

    return endpoint


def _to_questions(explain: Explain, metrics: Metrics, log: FilteringBoundLogger) -> Endpoint:
    """Answers who brings a token, in text for people; every answer is counted and logged."""

    async def answered(request: Request) -> ExplainAnswer:
        said = _BEARER.fullmatch(request.headers.get("Authorization", ""))
        if said is None:
            sentence = "a token is missing; accepted: the header Authorization: Bearer TOKEN"
            return ExplainAnswer(Outcome.UNAUTHENTICATED, sentence)
        body = await _bounded_body(request, MAX_QUESTION_BYTES)
        if body is None:
            return ExplainAnswer(Outcome.TOO_LARGE, _TOO_LARGE.format(MAX_QUESTION_BYTES))
        return await explain(said[1], body)

    async def endpoint(request: Request) -> Response:
        try:
            answer = await answered(request)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        metrics.explains[answer.outcome].inc()
        say = log.debug if answer.outcome in _ANYBODYS else log.info
        if answer.failure:
            say = log.error
        say(
            "explained",
            outcome=answer.outcome.value,
            namespace=answer.namespace,
            exc_info=answer.failure,
        )
        text = answer.text if answer.text.endswith("\n") else f"{answer.text}\n"
        return PlainTextResponse(text, STATUS[answer.outcome], _EXTRA.get(answer.outcome))

    return endpoint


async def _bounded_body(request: Request, most: int) -> bytes | None:
    """The body, or None if it is too large (FastAPI's own bound answers without a sentence)."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            return None
    return bytes(body)


def _record_edit(answer: CatalogAnswer, metrics: Metrics, log: FilteringBoundLogger) -> None:
    if "error" in answer.body:
        metrics.malformed_reviews.inc()
        log.debug("malformed review", error=answer.body["error"])
        return
    counter = metrics.catalog_reviews[not answer.problems]
    (metrics.dry_runs if answer.is_dry_run else counter).inc()
    if answer.problems:
        log.info("edit of the catalog refused", problems=answer.problems, dry_run=answer.is_dry_run)
    if answer.failure:
        log.error("edit of the catalog not checked", exc_info=answer.failure)


def _record(answer: Answer, metrics: Metrics, log: FilteringBoundLogger) -> None:
    """Count an answer and say why; every "no" has its line and its number."""
    if answer.decision is None or answer.subject is None:
        metrics.malformed_reviews.inc()
        log.debug("malformed review", error=answer.body.get("error"))
        return
    decision, subject = answer.decision, answer.subject
    (metrics.dry_runs if subject.is_dry_run else metrics.decisions[decision.reason]).inc()
    say = log.debug if decision.reason in _ROUTINE else log.info
    if decision.reason is DecisionReason.INTERNAL_ERROR:
        say = log.error
    say(
        "pod decided",
        reason=decision.reason.value,
        detail=decision.detail,
        keys=",".join(decision.keys),
        namespace=subject.namespace,
        pod=subject.pod,
        uid=subject.uid,
        dry_run=subject.is_dry_run,
        exc_info=answer.failure,
    )

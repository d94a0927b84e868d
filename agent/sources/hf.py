"""The Hugging Face Hub, or a mirror that speaks its protocol.

huggingface_hub resolves a revision to its commit and lists the tree at that commit (`hf_api`). The
bytes are moved by `web`: the hub's own client neither resumes nor verifies, and is slower (library
facts A2, A3).

What a hub says is hostile until it was checked: every entry of the listing is a file or directory,
with a size, a digest, and a path that a slot may hold; every answer with a file's bytes is of the
commit, the size and the range that were asked for. The token goes to the hub's origin only.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote

from agent.planning.values import Listing, RemoteFile
from agent.sources.hf_politeness import Allowance, Links
from agent.sources.hf_refusals import Asked, refusal, unavailable
from agent.sources.interface import Body, SourceRequest
from agent.sources.ranges import checked_body, range_headers, refuse_range
from agent.sources.web import NO_HEADERS, Answer, Origin, Web, origin_of
from larder.errors import (
    FillError,
    ModelNotFoundError,
    SourceDriftedError,
    SourceUnavailableError,
)
from larder.storage_uri import HubModel, normalise, parse_hub_uri
from runtime.clock import Clock

ENVIRONMENT: Final = {
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HOME": "/nonexistent",  # neither a token nor a cache of the machine's
}
"""What huggingface_hub reads when it is imported; for the environment of a fill's child."""

_NOT_FOUND: Final = 404
_ANSWER_MAX_BYTES: Final = 64 * 1024


class HubSource:
    """Lists and fetches models of one hub."""

    def __init__(
        self,
        endpoint: str,
        token: str | None,
        clock: Clock,
        web: Web | None = None,
        fills: int = 1,
    ) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._origin = origin_of(endpoint)
        self._token = token
        self._secret = {"Authorization": f"Bearer {token}"} if token else NO_HEADERS
        self._clock = clock
        self._web = web or Web()
        self._allowance = Allowance(clock, fills)
        self._links = Links(self._origin)

    def list(self, request: SourceRequest) -> Listing:
        """The files at the commit that the revision names now."""
        from agent.sources.hf_api import HubApi  # noqa: PLC0415 - imports the hub's library

        model = _model_of(request.storage_uri)
        hub = HubApi(self._endpoint, self._token, self._web, self._asked(model))
        commit = hub.resolve(request.revision or model.revision)
        files = hub.files(commit, request)
        if not files:
            raise ModelNotFoundError(f"{model.repo_id} at {commit} has no file to keep")
        return Listing(normalise(request.storage_uri), commit, files)

    @contextmanager
    def fetch(
        self, listing: Listing, file: RemoteFile, offset: int = 0, length: int | None = None
    ) -> Iterator[Body]:
        """A range of a file, by a link that the hub gave before or by a new one."""
        headers = range_headers(file, offset, length)
        is_given = False
        if link := self._links.of(file):
            try:
                with self._web.get(link, headers) as answer:
                    if is_given := answer.is_success:
                        yield checked_body(answer, file, offset, length)
            except FillError:
                self._links.drop(file.path)
                raise
        if not is_given:
            self._links.drop(file.path)
            with self._asked_of_hub(listing, file, headers) as answer:
                yield checked_body(answer, file, offset, length)

    @contextmanager
    def _asked_of_hub(
        self, listing: Listing, file: RemoteFile, headers: Mapping[str, str]
    ) -> Iterator[Answer]:
        """An answer with a range's bytes. A link that it came by is kept."""
        self._allowance.take(file)
        asked = self._asked(_model_of(listing.storage_uri))
        path = quote(file.path)
        url = f"{self._endpoint}/{asked.repo_id}/resolve/{listing.revision}/{path}"
        with self._web.get(url, headers, self._secret) as answer:
            _refuse_other_commit(answer, listing.revision, asked)
            self._refuse_error(answer, file, asked)
            self._links.keep(file, url, answer)
            yield answer

    def ask(self, listing: Listing, about: str) -> str:
        """What the hub's API says about a listed model, at its commit."""
        asked = self._asked(_model_of(listing.storage_uri))
        url = f"{self._endpoint}/api/models/{asked.repo_id}/{about}/{listing.revision}"
        with self._web.get(url, NO_HEADERS, self._secret) as answer:
            if error := refusal(asked, answer.status, answer.header):
                raise error
            return answer.text(_ANSWER_MAX_BYTES)

    @property
    def origin(self) -> Origin:
        """Who is asked."""
        return self._origin

    def close(self) -> None:
        """Close the connections to the hub."""
        self._web.close()

    def _asked(self, model: HubModel) -> Asked:
        return Asked(self._origin.host, model.repo_id, self._token is not None, self._clock)

    def _refuse_error(self, answer: Answer, file: RemoteFile, asked: Asked) -> None:
        """Raise what an answer without the file's bytes means."""
        status = answer.status
        refuse_range(answer, file)
        if answer.is_success:
            return
        error: FillError | None
        if answer.origin != self._origin:  # a signed link, say: an old one gets 403
            error = unavailable(asked, status, answer.header)
        elif status == _NOT_FOUND and answer.header("X-Error-Code") != "RepoNotFound":
            error = SourceDriftedError(f"{asked.repo_id} lists {file.path!r} and does not have it")
        else:
            error = refusal(asked, status, answer.header)
        raise error or SourceUnavailableError(f"{asked.host} answers HTTP {status}")


def _model_of(storage_uri: str) -> HubModel:
    model = parse_hub_uri(storage_uri)
    if model is None:
        raise ModelNotFoundError(f"{storage_uri!r} is not hf://OWNER/MODEL")
    return model


def _refuse_other_commit(answer: Answer, commit: str, asked: Asked) -> None:
    """Check what the hub itself, not a CDN, says about the commit; mirrors may say nothing."""
    said = answer.first_header("X-Repo-Commit")
    if said is not None and said != commit:
        raise SourceDriftedError(f"{asked.host} serves another commit of {asked.repo_id}: {said!r}")

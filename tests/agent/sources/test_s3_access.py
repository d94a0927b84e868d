"""Where a bucket is, by catalog and Secret; and signatures, which botocore makes alike."""

import datetime as dt
from unittest import mock

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from agent.sources.s3_access import Keys, S3Access, s3_access, verifies_tls
from agent.sources.secret import NO_SECRET, Secret
from larder.errors import AccessDeniedError

AWS = "https://s3.amazonaws.com"
NOW = 1_790_000_000.0
PAIR = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}

texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(
    key=texts,
    query=st.dictionaries(texts, texts, max_size=3),
    token=st.none() | st.just("session"),
    is_virtual=st.booleans(),
)
def test_a_signature_is_the_one_that_aws_s_own_library_makes(
    key: str, query: dict[str, str], token: str | None, is_virtual: bool
) -> None:
    access = S3Access("buck-et", "", "eu-1", is_virtual, Keys("id", "se/cr+et", token))
    url = access.url(key, query)
    ours = access.signed("GET", url, {"x-amz-checksum-mode": "ENABLED"}, NOW)

    request = AWSRequest("GET", url, headers={"x-amz-checksum-mode": "ENABLED"})
    auth = S3SigV4Auth(Credentials("id", "se/cr+et", token), "s3", "eu-1")
    now = dt.datetime.fromtimestamp(NOW, dt.UTC)
    with mock.patch("botocore.auth.get_current_datetime", return_value=now):
        auth.add_auth(request)
    assert ours["Authorization"] == request.headers["Authorization"].replace(", ", ",")


@pytest.mark.parametrize(
    ("bucket", "endpoint", "annotations", "url"),
    [
        pytest.param("b", AWS, {}, "https://b.s3.us-east-1.amazonaws.com/k", id="AWS"),
        pytest.param(
            "b", AWS, {"s3-region": "eu-1"}, "https://b.s3.eu-1.amazonaws.com/k", id="a region"
        ),
        pytest.param(
            "b.c", AWS, {}, "https://s3.us-east-1.amazonaws.com/b.c/k", id="a bucket with a dot"
        ),
        pytest.param(
            "b", AWS, {"s3-endpoint": "m:9000", "s3-usehttps": "0"}, "http://m:9000/b/k", id="MinIO"
        ),
        pytest.param("b", AWS, {"s3-endpoint": "m"}, "https://m/b/k", id="an endpoint over TLS"),
        pytest.param(
            "b",
            AWS,
            {"s3-endpoint": "s3.amazonaws.com", "s3-region": "eu-1"},
            "https://b.s3.eu-1.amazonaws.com/k",
            id="AWS by name, as KServe's samples have it",
        ),
        pytest.param(
            "b",
            "https://catalog/",
            {"s3-endpoint": "m", "s3-usevirtualbucket": "true"},
            "https://b.catalog/k",
            id="the catalog's endpoint, with virtual hosts",
        ),
    ],
)
def test_a_bucket_is_where_catalog_and_secret_say(
    bucket: str, endpoint: str, annotations: dict[str, str], url: str
) -> None:
    assert s3_access(bucket, endpoint, Secret({}, annotations)).url("k") == url


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        ({}, None),
        (PAIR, Keys("id", "secret")),
        ({"awsAccessKeyID": "id", "awsSecretAccessKey": "secret"}, Keys("id", "secret")),
        (PAIR | {"AWS_SESSION_TOKEN": "t"}, Keys("id", "secret", "t")),
    ],
)
def test_keys_are_those_of_kserve_s_secrets(data: dict[str, str], keys: Keys | None) -> None:
    assert s3_access("b", AWS, Secret(data)).keys == keys
    assert "secret" not in repr(keys)


@pytest.mark.parametrize("said", ["1", "true", "True"])
def test_a_secret_may_say_that_its_keys_are_not_for_this(said: str) -> None:
    assert s3_access("b", AWS, Secret(PAIR, {"s3-useanoncredential": said})).keys is None


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        (Secret({"AWS_ACCESS_KEY_ID": "id"}), "hold one of"),
        (Secret({"AWS_SECRET_ACCESS_KEY": "secret"}), "hold one of"),
        (Secret(PAIR, {"s3-region": "x/../y"}), "s3-region names no region"),
        (Secret(PAIR, {"s3-endpoint": "me:secret@host"}), "s3-endpoint names no host"),
    ],
)
def test_a_secret_that_cannot_be_used_is_said_to(secret: Secret, says: str) -> None:
    with pytest.raises(AccessDeniedError, match=says) as refused:
        s3_access("b", AWS, secret)
    assert "secret@" not in str(refused.value)


@pytest.mark.parametrize(("said", "verifies"), [("0", False), ("False", False), ("1", True)])
def test_certificates_are_checked_unless_the_secret_says_not_to(said: str, verifies: bool) -> None:
    assert verifies_tls(Secret({}, {"s3-verifyssl": said})) is verifies
    assert verifies_tls(NO_SECRET)

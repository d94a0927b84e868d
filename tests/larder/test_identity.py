"""Identity is a text, and the key a digest of it."""

import pytest

from larder.identity import identity_of


@pytest.mark.parametrize(
    ("uri", "revision", "key"),
    [
        ("s3://mybucket/mymodel", None, "89da10faf446bbf1"),
        ("s3://mybucket/mymodel/", None, "89da10faf446bbf1"),
        ("S3://mybucket/mymodel", None, "89da10faf446bbf1"),
        ("hf://Qwen/Qwen2-0.5B-Instruct", "main", "52a2d80d4bc5fa16"),
        ("hf://Qwen/Qwen2-0.5B-Instruct", None, "a7631b3fe62115e0"),
        ("s3://foo", None, "83fbff445b51876f"),
        ("gs://kfserving-examples/models/sklearn/1.0/model", None, "379edc91f9c1bc7b"),
    ],
)
def test_keys_are_those_that_kserve_and_earlier_releases_make(
    uri: str, revision: str | None, key: str
) -> None:
    assert identity_of(uri, revision=revision).key == key


def test_the_text_has_a_line_for_each_part_in_a_fixed_order() -> None:
    identity = identity_of(
        "HF://o/m/",
        endpoint="https://Mirror.example.com:443/",
        revision="main",
        allow_patterns=["*.json", "é"],
        ignore_patterns=["x"],
    )

    assert identity.text == (
        "hf://o/m\nendpoint=https://mirror.example.com\nrevision=main\n"
        'allow=["*.json","é"]\nignore=["x"]'
    )


@pytest.mark.parametrize(
    ("uri", "endpoint"),
    [("hf://o/m", "https://huggingface.co/"), ("s3://b/m", "https://s3.amazonaws.com")],
)
def test_the_default_endpoint_of_a_scheme_is_no_part(uri: str, endpoint: str) -> None:
    assert identity_of(uri, endpoint=endpoint) == identity_of(uri)


def test_every_part_makes_another_key() -> None:
    keys = {
        identity_of("hf://o/m").key,
        identity_of("hf://o/m2").key,
        identity_of("hf://o/m", endpoint="http://mirror").key,
        identity_of("hf://o/m", revision="main").key,
        identity_of("hf://o/m", allow_patterns=["a", "b"]).key,
        identity_of("hf://o/m", allow_patterns=["b", "a"]).key,
        identity_of("hf://o/m", allow_patterns=["a,b"]).key,
        identity_of("hf://o/m", ignore_patterns=["a", "b"]).key,
    }

    assert len(keys) == 8

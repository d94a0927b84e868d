"""A Secret as sources take it: KServe's keys, and nothing of it in a sentence."""

import json

import pytest

from agent.sources.secret import NO_SECRET, Secret


@pytest.mark.parametrize("value", ["", " \n", "a\nb", "tökén"], ids=repr)
def test_a_value_that_could_not_stand_in_a_header_is_none(value: str) -> None:
    assert Secret({"HF_TOKEN": value}).line("HF_TOKEN") is None
    assert Secret({"HF_TOKEN": value}).missing_key("hf://o/m") == "HF_TOKEN"


def test_the_first_key_that_is_there_is_taken_without_the_spaces_around_it() -> None:
    secret = Secret({"a": " ", "b": " two \n", "c": "three"})
    assert secret.line("a", "b", "c") == "two"
    assert secret.line("d") is None


@pytest.mark.parametrize(
    ("uri", "missing"),
    [("hf://o/m", "HF_TOKEN"), ("https://h/x", "https-host"), ("s3://b/m", None)],
)
def test_a_scheme_says_which_key_it_cannot_do_without(uri: str, missing: str | None) -> None:
    assert NO_SECRET.missing_key(uri) == missing


def test_no_value_is_shown_nor_left_in_a_text() -> None:
    headers = json.dumps({"Authorization": "Bearer sesamesesame", "X-Key": "0123456789"})
    secret = Secret({"https-host": "models.example", "headers": headers, "AWS_KEY": "abcd/+efgh="})
    said = "models.example refuses sesamesesame, 0123456789 and abcd/+efgh="
    assert secret.hidden_in(said) == "models.example refuses ***, *** and ***"
    assert "sesame" not in repr(secret)


def test_azure_blobs_want_none_of_the_keys_of_single_files() -> None:
    assert NO_SECRET.missing_key("https://a.blob.core.windows.net/c/m") is None

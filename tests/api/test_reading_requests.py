from __future__ import annotations

import base64
import json

import pytest
from aiohttp.test_utils import make_mocked_request

from gitops import errors
from gitops.api import logs, requests


@pytest.mark.parametrize("text", ["", "0", "no", "NO", "false", "False", "none", " none "])
def test_words_that_mean_false(text: str) -> None:
    assert not requests.switch(make_mocked_request("GET", f"/x?all={text.replace(' ', '%20')}"), "all")


@pytest.mark.parametrize("text", ["1", "true", "yes", "t", "2", "anything"])
def test_everything_else_means_true(text: str) -> None:
    assert requests.switch(make_mocked_request("GET", f"/x?all={text}"), "all")


def test_a_switch_that_is_not_given_has_its_default() -> None:
    assert requests.switch(make_mocked_request("GET", "/x"), "all", default=True)


def test_both_forms_of_filters_are_read() -> None:
    assert requests.parse_filters('{"label":["a=b"],"name":{"x":true,"y":false}}', ["label", "name"]) == {
        "label": ["a=b"],
        "name": ["x"],
    }


def test_an_unknown_filter_is_refused_by_name() -> None:
    with pytest.raises(errors.Invalid, match="invalid filter 'colour'"):
        requests.parse_filters('{"colour":["red"]}', ["label"])


@pytest.mark.parametrize("text", ["{", "[]", '"x"', '{"label":"a"}', '{"label":[1]}', "[" * 100_000])
def test_filters_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(errors.Invalid):
        requests.parse_filters(text, ["label"])


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("", 0),
        ("1700000000", 1_700_000_000_000_000_000),
        ("1700000000.5", 1_700_000_000_500_000_000),
        ("1700000000.000000001", 1_700_000_000_000_000_001),
        ("2026-01-31T12:00:00Z", 1_769_860_800_000_000_000),
    ],
)
def test_moments_are_seconds_with_a_fraction_or_rfc_3339(text: str, nanoseconds: int) -> None:
    assert requests.moment(text, "since") == nanoseconds


@pytest.mark.parametrize(
    "text", ["yesterday", "9" * 400, "1e9", "1.5.5", "٣", "--1", "1.x", "inf", "2026-99-99T00:00:00Z"]
)
def test_a_moment_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(errors.Invalid) as caught:
        requests.moment(text, "since")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text", ["many", "9" * 19, "9" * 400, "1" * 5000, "1e3", "%D9%A3", "0x10", "1_0", "1%00", "inf"]
)
def test_a_number_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(errors.Invalid, match="limit") as caught:
        requests.number(make_mocked_request("GET", f"/x?limit={text}"), "limit")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["", "all", "-1", "9" * 5000, "%D9%A3", "%C2%B2"])
def test_a_tail_that_is_no_number_is_all(text: str) -> None:
    assert logs.parse(make_mocked_request("GET", f"/x?stdout=1&tail={text}")).tail is None


def test_an_update_needs_a_version() -> None:
    with pytest.raises(errors.Invalid, match="version"):
        requests.version(make_mocked_request("POST", "/x"))


def _auth(text: str) -> object:
    return requests.registry_auth(make_mocked_request("POST", "/x", headers={"X-Registry-Auth": text}))


def test_credentials_are_read_in_either_base64_alphabet() -> None:
    data = json.dumps({"username": "u?>", "password": "p~~~", "serveraddress": "r"}).encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        auth = _auth(encode(data).decode())
        assert auth is not None
        assert auth.password == "p~~~"  # type: ignore[attr-defined]
        assert "p~~~" not in repr(auth)


@pytest.mark.parametrize("text", ["e30=", "e30", "", "!!!", "bm90IGpzb24="])
def test_credentials_that_say_nothing_count_as_anonymous(text: str) -> None:
    assert _auth(text) is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("90s", 10_000 * 10**9 - 90 * 10**9),
        ("1h30m", 10_000 * 10**9 - 5_400 * 10**9),
        ("1.5s", 10_000 * 10**9 - 1_500_000_000),
        ("1970-01-02", 86_400 * 10**9),
        ("1970-01-01T01:00", 3_600 * 10**9),
        ("1970-01-01T00:00:01Z", 10**9),
        ("7", 7 * 10**9),
    ],
)
def test_a_moment_in_the_past_is_read_as_people_write_it(text: str, wanted: int) -> None:
    assert requests.past(text, "until", 10_000 * 10**9) == wanted


def test_a_moment_that_is_none_of_these_is_refused() -> None:
    with pytest.raises(errors.Invalid, match="invalid value"):
        requests.past("yesterday", "until", 0)

"""Where a request comes from and what it carries: credentials, addresses behind proxies, pages of other sites."""

from __future__ import annotations

import base64

import pytest

from gateway.errors import GatewayError
from gateway.http.credentials import sent
from gateway.http.origin import Proxies, asks_for_this_machine, from_own_page, of_other_site, same_origin, subject

KEY = "fg_0123456789ab_" + "x" * 43


def scope(client: str | None = "127.0.0.1", **headers: str) -> dict[str, object]:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "client": (client, 1) if client else None, "headers": raw}


def basic(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({}, None),
        ({"authorization": ""}, None),
        ({"authorization": f"Bearer {KEY}"}, KEY),
        ({"authorization": f"  bearer   {KEY} "}, KEY),
        ({"authorization": f"Token {KEY}"}, KEY),
        ({"authorization": f"Basic {basic(f'me:{KEY}')}"}, KEY),
        ({"authorization": f"Basic {basic(f'{KEY}:')}"}, KEY),
        ({"authorization": f"Basic {basic(KEY)}"}, KEY),
        ({"authorization": f"Basic {KEY}"}, KEY),
        ({"authorization": f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/r/s/aws4_request, SignedHeaders=h"}, KEY),
        ({"x-api-key": KEY, "authorization": "Bearer other"}, KEY),
        ({"datarobot-key": KEY}, KEY),
        ({"datarobot-key": "theirs", "authorization": f"Token {KEY}"}, KEY),
    ],
)
def test_a_key_is_found_where_clients_put_it(headers: dict[str, str], key: str | None) -> None:
    assert sent(headers) == key


@pytest.mark.parametrize("value", ["Digest x", "Bearer ", "AWS4-HMAC-SHA256 nothing", KEY])
def test_an_authorization_that_cannot_be_read_is_refused_without_repeating_it(value: str) -> None:
    with pytest.raises(GatewayError) as caught:
        sent({"authorization": value})
    assert value.split()[-1] not in caught.value.sentence.replace("Bearer <key>", "")


@pytest.mark.parametrize(
    ("trusted", "client", "forwarded", "address", "local"),
    [
        ((), "127.0.0.1", None, "127.0.0.1", True),
        ((), "::1", None, "::1", True),
        ((), "::ffff:127.0.0.1", None, "127.0.0.1", True),
        ((), None, None, None, True),  # a unix socket
        ((), "10.0.0.9", None, "10.0.0.9", False),
        ((), "10.0.0.9", "127.0.0.1", "10.0.0.9", False),
        ((), "127.0.0.1", "127.0.0.1", "127.0.0.1", False),  # through a proxy that nobody told us of
        (("127.0.0.1",), "127.0.0.1", "203.0.113.7", "203.0.113.7", False),
        (("127.0.0.1",), "127.0.0.1", None, "127.0.0.1", True),
        (("127.0.0.1", "10.0.0.0/8"), "127.0.0.1", "127.0.0.1, 203.0.113.7, 10.1.2.3", "203.0.113.7", False),
        (("10.0.0.0/8",), "203.0.113.9", "127.0.0.1", "203.0.113.9", False),  # no proxy of ours
        (("127.0.0.1",), None, "203.0.113.7", "203.0.113.7", False),  # a proxy on a unix socket
        (("127.0.0.1",), "127.0.0.1", "nonsense", None, False),
        ((), "testclient", None, None, False),
    ],
)
def test_an_address_is_a_proxys_word_only_where_the_proxy_is_trusted(
    trusted: tuple[str, ...], client: str | None, forwarded: str | None, address: str | None, local: bool
) -> None:
    proxies = Proxies(trusted)
    asked = scope(client, **({"x_forwarded_for": forwarded} if forwarded else {}))
    found = proxies.address(asked)
    assert (str(found) if found else None) == address
    assert proxies.local(asked) is local


def test_ipv6_callers_are_counted_by_their_network() -> None:
    def counted(client: str | None) -> str:
        return subject(Proxies(()).address(scope(client)))

    assert counted("2001:db8::1") == counted("2001:db8::ffff") != counted("2001:db8:0:1::1")
    assert [counted(c) for c in ("10.0.0.1", "::1", None)] == ["ip:10.0.0.1", "ip:::1", "ip:local"]


@pytest.mark.parametrize(
    ("headers", "same", "own"),
    [
        ({}, True, False),
        ({"origin": "http://localhost:80", "host": "localhost:80"}, True, True),
        ({"sec_fetch_site": "same-origin"}, True, True),
        ({"sec_fetch_site": "none"}, True, False),  # typed into the address bar
        ({"sec_fetch_site": "same-site"}, False, False),
        ({"origin": "http://evil.example", "host": "localhost"}, False, False),
        ({"origin": "null", "host": "localhost"}, False, False),
    ],
)
def test_a_page_of_ours_is_told_from_others(headers: dict[str, str], same: bool, own: bool) -> None:
    assert same_origin(scope(**headers)) is same
    assert from_own_page(scope(**headers)) is own


@pytest.mark.parametrize(
    ("headers", "other"),
    [
        ({}, False),  # a program
        ({"sec_fetch_site": "cross-site", "origin": "https://evil.example"}, True),
        ({"sec_fetch_site": "cross-site"}, True),
        ({"sec_fetch_site": "cross-site", "origin": "https://app.example"}, False),  # the operator's own
        ({"sec_fetch_site": "same-origin", "origin": "http://public", "host": "inner"}, False),  # behind a proxy
        ({"origin": "http://evil.example", "host": "localhost:8000"}, True),
        ({"origin": "null", "host": "localhost:8000"}, True),
        ({"origin": "http://[", "host": "localhost:8000"}, True),
        ({"origin": "http://localhost:8000", "host": "localhost:8000"}, False),
    ],
)
def test_a_page_of_another_site_is_told_by_its_browser(headers: dict[str, str], other: bool) -> None:
    assert of_other_site(scope(**headers), ("https://app.example",)) is other
    assert not of_other_site(scope(**headers), ("*",))


def test_a_rebound_name_is_not_this_machine() -> None:
    for host, here in (("localhost:1", True), ("[::1]", True), ("evil.example", False), ("[", False)):
        assert asks_for_this_machine(scope(host=host)) is here

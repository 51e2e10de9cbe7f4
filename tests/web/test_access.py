"""Tests of authentication for pages, metrics and the API, and of the limit on wrong tokens."""

import base64
import re
from typing import Any

import pytest
from werkzeug.test import TestResponse

from deployer.model.errors import ConfigError
from deployer.settings.loading import load_config
from tests.web.site import AWS_KEY, SECRET, TOKEN, Site, record
from web.context import principal
from web.throttle import FROM_ADDRESS, FROM_ALL, WINDOW_SECONDS, WrongTokens

PROXY = {"DEPLOYER_TRUSTED_PROXY_HEADER": "X-User", "DEPLOYER_TRUSTED_PROXIES": "10.1.0.0/24,::1"}
SANDBOX = {"DEPLOYER_SANDBOX": "yes", "DEPLOYER_GITHUB_API_URL": "http://127.0.0.1:8081/api/v3"}
NOBODY = {"DEPLOYER_API_TOKEN": ""}


def basic(password: str, user: str = "ada") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def ask(
    site: Site, path: str = "/", method: str = "GET", *, peer: str = "192.0.2.7", **headers: str
) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return site.stranger.open(
        path, method=method, headers=named, environ_base={"REMOTE_ADDR": peer}, buffered=True
    )


def closed(site: Site) -> list[str]:
    """Every address that the application serves and that strangers may not open."""
    identity = site.put(record())
    found = []
    for rule in site.app.url_map.iter_rules():
        if rule.endpoint in {"static", "health.healthz", "health.readyz"} or rule.endpoint.startswith(
            "webhooks."
        ):
            continue
        found.append(re.sub(r"<[^>]*>", identity, rule.rule))
    return found


# --- unauthenticated callers


@pytest.mark.parametrize("env", [{}, NOBODY, NOBODY | PROXY, PROXY], ids=["token", "none", "proxy", "both"])
def test_an_unauthenticated_caller_sees_only_the_health_check(env: dict[str, str]) -> None:
    site = Site(env)
    paths = [*closed(site), "/nothing", "/api/v1/nothing", "/metrics/", "//"]
    assert len(paths) > 15
    before = len(site.queue.sent)
    for path in paths:
        for method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS"):
            answer = ask(site, path, method, X_User="ada", X_Forwarded_For="10.1.0.1", X_Real_IP="10.1.0.1")
            assert answer.status_code == 401, (method, path)
            assert "acme" not in answer.text
            assert "WWW-Authenticate" in answer.headers
    assert len(site.queue.sent) == before
    assert ask(site, "/healthz").json == {"status": "alive"}
    assert ask(site, "/readyz").json == {"status": "ready"}
    assert ask(site, "/static/style.css").status_code == 200
    for path in ("/static/none.css", "/static/../metrics", "/static/%2e%2e/metrics", "/static/"):
        assert ask(site, path).status_code == 404
    assert ask(site, "/webhooks/none").status_code == 404
    with site.redis_away():
        answer = ask(site, "/readyz")
        assert (answer.status_code, answer.json) == (503, {"status": "not ready"})


@pytest.mark.parametrize(
    ("env", "path", "challenge", "says"),
    [
        ({}, "/", "Basic", "the token in DEPLOYER_API_TOKEN as the password"),
        ({}, "/metrics", "Basic", "DEPLOYER_API_TOKEN"),
        ({}, "/api/v1/lanes", "Bearer", "Bearer &lt;the token in DEPLOYER_API_TOKEN"),
        (NOBODY, "/", "Bearer", "set DEPLOYER_API_TOKEN, or DEPLOYER_TRUSTED_PROXY_HEADER"),
        (NOBODY, "/api/v1/lanes", "Bearer", "DEPLOYER_API_TOKEN is not set"),
        (NOBODY | PROXY, "/", "Bearer", "sign in at the proxy"),
    ],
)
def test_a_refusal_names_the_remedy(env: dict[str, str], path: str, challenge: str, says: str) -> None:
    answer = ask(Site(env), path)
    assert answer.headers["WWW-Authenticate"].partition(" ")[0] == challenge, (
        "browsers ask people only for Basic"
    )
    assert says in answer.text.replace("<the", "&lt;the")
    assert (answer.mimetype == "text/html") == (path == "/")


WRONG = [
    "", "Bearer", "Bearer ", "Bearer wrong", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN, f"Token {TOKEN}",
    f"Digest {TOKEN}", "Basic", "Basic ???", "Basic " + base64.b64encode(TOKEN.encode()).decode(), basic(""),
    basic("wrong"), basic(f"{TOKEN}x"), basic(SECRET), f"Bearer {AWS_KEY}", "Basic \u00fc", "Bearer \u00fc",
]  # fmt: skip


@pytest.mark.parametrize("path", ["/", "/metrics", "/api/v1/lanes", "/readyz"])
def test_wrong_or_malformed_credentials_are_refused(
    site: Site, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    for wrong in WRONG:
        site.app.extensions["deployer-wrong-tokens"] = WrongTokens()
        answer = ask(site, path, Authorization=wrong)
        assert answer.status_code in ({200, 401} if path == "/readyz" else {401}), wrong
        assert "parts" not in answer.text
        assert TOKEN not in answer.text + caplog.text


# --- authenticated callers


@pytest.mark.parametrize(
    ("env", "headers", "peer", "name"),
    [
        ({}, {"Authorization": f"Bearer {TOKEN}"}, "192.0.2.7", "token"),
        ({}, {"Authorization": f"bearer  {TOKEN} "}, "192.0.2.7", "token"),
        ({}, {"Authorization": basic(TOKEN)}, "192.0.2.7", "token"),
        ({}, {"Authorization": basic(TOKEN, user="")}, "192.0.2.7", "token"),
        (PROXY, {"X-User": "ada"}, "10.1.0.9", "ada via proxy"),
        (PROXY, {"X-User": "ada@acme.example"}, "::ffff:10.1.0.9", "ada@acme.example via proxy"),
        (PROXY | NOBODY, {"X-User": "ada"}, "::1", "ada via proxy"),
        (PROXY, {"X-User": "ada", "Authorization": basic("of-the-proxy")}, "::1", "ada via proxy"),
        (PROXY, {"X-User": "ada", "Authorization": f"Bearer {TOKEN}"}, "192.0.2.7", "token"),
        (PROXY, {"X-User": "", "Authorization": f"Bearer {TOKEN}"}, "::1", "token"),
        (SANDBOX, {}, "192.0.2.7", "sandbox"),
        (SANDBOX, {"Authorization": f"Bearer {TOKEN}"}, "192.0.2.7", "token"),
    ],
)
def test_a_token_or_a_trusted_proxy_opens_every_page(
    env: dict[str, str], headers: dict[str, str], peer: str, name: str
) -> None:
    site = Site(env)
    seen = []
    site.app.teardown_request(lambda _: seen.append(principal()))
    named: dict[str, Any] = {key.replace("-", "_"): value for key, value in headers.items()}
    for path in closed(site):
        if name == "sandbox" and path.startswith("/api/") and not path.endswith("/openapi.json"):
            assert ask(site, path, peer=peer, **named).status_code == 401
        elif path.startswith("/api/"):
            assert ask(site, path, peer=peer, **named).status_code in {200, 404, 405}, path
        else:
            assert ask(site, path, peer=peer, **named).status_code in {200, 404}, path
        if path == "/metrics":
            assert seen[-1] == name
    assert ask(site, "/readyz", peer=peer, **named).json["parts"] == {"redis": "ok"}


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("ada", "10.1.1.9"), ("ada", "192.0.2.7"), ("ada", "::2"), ("ada", ""), ("ada", "unix"),
        ("eve,ada", "10.1.0.9"), ("a\u00fcb", "10.1.0.9"), ("<b>", "10.1.0.9"), ("a" * 101, "10.1.0.9"),
    ],
)  # fmt: skip
def test_an_untrusted_or_malformed_user_header_is_refused(name: str, peer: str) -> None:
    assert ask(Site(PROXY), "/", peer=peer, X_User=name).status_code == 401


def test_the_user_header_is_ignored_without_the_setting() -> None:
    assert ask(Site(), "/", peer="10.1.0.9", X_User="ada").status_code == 401


# --- requests from pages of other sites


ASKED = [
    ({}, 202),
    ({"Sec_Fetch_Site": "same-origin"}, 202),
    ({"Sec_Fetch_Site": "cross-site"}, 403),
    ({"Sec_Fetch_Site": "same-site"}, 403),
    ({"Sec_Fetch_Site": "cross-site", "Origin": "https://deployer.example"}, 403),
    ({"Origin": "https://deployer.example"}, 202),
    ({"Origin": "http://localhost"}, 202),
    ({"Origin": "https://evil.example"}, 403),
    ({"Origin": "null"}, 403),
]


@pytest.mark.parametrize(
    ("way", "who"),
    [
        ({"Authorization": basic(TOKEN)}, "token"),
        ({"X_User": "ada"}, "ada via proxy"),
        ({"Authorization": f"Bearer {TOKEN}"}, "token"),
    ],
    ids=["basic", "proxy", "bearer"],
)
def test_a_cross_site_request_changes_nothing(
    way: dict[str, str], who: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    site = Site(PROXY)
    identity = site.put(record())
    for headers, code in ASKED:
        answer = ask(site, f"/api/v1/environments/{identity}", "DELETE", peer="10.1.0.9", **way, **headers)
        wanted = 202 if "Bearer" in str(way) else code  # no browser adds Bearer by itself
        assert answer.status_code == wanted, headers
        assert f"DELETE /api/v1/environments/{identity} by {who}: {wanted}" in caplog.text
        caplog.clear()
        assert bool(site.waiting) == (wanted == 202), headers
        site.redis.flushall()
        site.put(record())
    assert ask(site, "/", peer="10.1.0.9", **way, Sec_Fetch_Site="cross-site").status_code == 200, "a link"


# --- wrong tokens


def test_wrong_tokens_are_limited_and_the_right_one_never_is(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    codes = [
        ask(site, Authorization=f"Bearer wrong-{number}").status_code for number in range(FROM_ADDRESS + 5)
    ]
    assert codes == [401] * FROM_ADDRESS + [429] * 5
    answer = ask(site, "/api/v1/lanes", Authorization=basic("wrong"))
    assert (answer.status_code, 0 < int(answer.headers["Retry-After"]) <= 60) == (429, True)
    assert ask(site, Authorization=f"Bearer {TOKEN}").status_code == 200, "from the same address"
    assert ask(site).status_code == 401, "no token is no wrong one"
    assert ask(site, peer="192.0.2.8", Authorization="Bearer wrong").status_code == 401
    assert f"{FROM_ADDRESS} wrong API tokens from 192.0.2.7" in caplog.text
    assert "wrong-3" not in caplog.text
    metrics = ask(site, "/metrics", Authorization=f"Bearer {TOKEN}").text
    assert f"deployer_wrong_tokens_total {FROM_ADDRESS + 7}.0" in metrics


def test_the_count_of_wrong_tokens_restarts_after_a_window() -> None:
    now = [100.0]
    wrong = WrongTokens(lambda: now[0])
    waits = [wrong.count("192.0.2.7")[1] for _ in range(FROM_ADDRESS + 1)]
    assert waits == [0.0] * FROM_ADDRESS + [WINDOW_SECONDS]
    now[0] += WINDOW_SECONDS - 1
    assert wrong.count("192.0.2.7")[1] == 1
    now[0] += 1
    assert wrong.count("192.0.2.7") == (1, 0.0)


def test_many_addresses_cost_a_bounded_memory_and_share_a_limit() -> None:
    wrong = WrongTokens(lambda: 0.0)
    waits = [
        wrong.count(f"10.{number // 65536}.{number // 256 % 256}.{number % 256}")[1] for number in range(5000)
    ]
    assert waits[: FROM_ALL + 1] == [0.0] * FROM_ALL + [WINDOW_SECONDS]
    assert all(waits[FROM_ALL:])
    assert wrong.size < 1100


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.8", False),
        ("192.0.2.7", "192.0.2.8", False),
        ("", "192.0.2.8", False),
    ],
)
def test_addresses_of_one_network_share_a_counter(one: str, other: str, same: bool) -> None:
    wrong = WrongTokens(lambda: 0.0)
    wrong.count(one)
    assert wrong.count(other)[0] == (2 if same else 1)


# --- ports


@pytest.mark.parametrize(
    ("path", "method", "web", "hooks"),
    [
        ("/webhooks/github", "POST", 404, 401),
        ("/webhooks/aws", "POST", 404, 401),
        ("/webhooks/none", "GET", 404, 404),
        ("/healthz", "GET", 200, 200),
        ("/readyz", "GET", 200, 404),
        ("/", "GET", 200, 404),
        ("/metrics", "GET", 200, 404),
        ("/api/v1/lanes", "GET", 200, 404),
        ("/static/style.css", "GET", 200, 404),
    ],
)
def test_webhooks_may_have_a_port_of_their_own(path: str, method: str, web: int, hooks: int) -> None:
    site = Site({"DEPLOYER_WEBHOOK_PORT": "9000"})
    for port, code in ((8080, web), (9000, hooks)):
        headers = {"Content-Type": "application/json", "Host": "localhost:9000"}
        answer = site.client.open(
            path, method=method, headers=headers, environ_overrides={"SERVER_PORT": str(port)}, buffered=True
        )
        assert answer.status_code == code, port


# --- settings


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"DEPLOYER_TRUSTED_PROXY_HEADER": "X-User"}, "must be set together"),
        ({"DEPLOYER_TRUSTED_PROXIES": "10.0.0.1"}, "must be set together"),
        (
            PROXY | {"DEPLOYER_TRUSTED_PROXIES": "10.0.0.1,proxy.example"},
            "'proxy.example'; it must be an address",
        ),
        (PROXY | {"DEPLOYER_TRUSTED_PROXIES": "0.0.0.0/0"}, "'0.0.0.0/0'; it must be an address"),
        (PROXY | {"DEPLOYER_TRUSTED_PROXIES": "::/0"}, "'::/0'; it must be an address"),
        (PROXY | {"DEPLOYER_TRUSTED_PROXY_HEADER": "X_User"}, "'X_User'; it must be a header name"),
        (PROXY | {"DEPLOYER_TRUSTED_PROXY_HEADER": "X-User: y"}, "it must be a header name"),
        (PROXY | {"DEPLOYER_TRUSTED_PROXY_HEADER": "Authorization"}, "it must be a header name"),
        ({"DEPLOYER_WEBHOOK_PORT": "8080"}, "DEPLOYER_WEBHOOK_PORT is the same port as DEPLOYER_WEB_PORT"),
        (
            {"DEPLOYER_WEBHOOK_PORT": "70000"},
            "DEPLOYER_WEBHOOK_PORT is '70000'; it must be a whole number from 0",
        ),
    ],
)
def test_a_malformed_access_setting_stops_the_start(env: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(env)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)

"""Who may open pages, metrics and the API: decided once, before any handler runs.

Webhooks have secrets of their own; `/healthz`, `/readyz` and the style sheet are open. Everything else, also an
address that does not exist, needs the API token or the header of a trusted proxy. In the sandbox pages and metrics
are open, since all its secrets are public. The decision is recorded in docs/decisions/0018-who-may-open-pages.md.
"""

import base64
import binascii
import hmac
import logging
import math
import re
from ipaddress import ip_network
from urllib.parse import urlsplit

from flask import Flask, current_app, g, request
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from deployer.settings.values import Config
from web.answers import log_path, refuse
from web.context import TOKEN, deployer, principal
from web.throttle import FROM_ADDRESS, WrongTokens, plain

_log = logging.getLogger("deployer.web.access")
_API = "/api/"
_DESCRIPTION = "/api/v1/openapi.json"
_WEBHOOKS = "/webhooks/"
_STATIC = "/static/"
_OPEN = "/healthz"
_OPEN_WITH_LESS = "/readyz"  # strangers are told less there
_SAFE = {"GET", "HEAD", "OPTIONS"}
_NAME = re.compile(r"[A-Za-z0-9@._+:|=/\\-][A-Za-z0-9@._+:|=/\\ -]{0,99}")
_SANDBOX = "sandbox"


def register(app: Flask) -> None:
    """Decide about every request of the application."""
    app.extensions["deployer-wrong-tokens"] = WrongTokens()
    app.before_request(_check_port)
    app.before_request(_check_principal)
    app.after_request(_record)


def _check_port() -> None:
    """Serve webhooks on their own port alone, if there is one, and everything else on the other.

    Raises:
        NotFound: the address is served on the other port.
    """
    own = deployer().config.webhook_port
    if own and request.path != _OPEN:
        arrived = request.environ.get("SERVER_PORT") == str(own)
        if arrived != request.path.startswith(_WEBHOOKS):
            raise NotFound


def _check_principal() -> Response | None:
    """Find out who asks; the refusal of a stranger. No refusal has a line in the log, which strangers could fill."""
    path = request.path
    g.principal = ""
    if path == _OPEN or path.startswith((_WEBHOOKS, _STATIC)):
        return None
    config = deployer().config
    if name := _proxied(config):
        if not _NAME.fullmatch(name):  # the proxy may have passed on the sender's own header beside its own
            return refuse(401, f"the header {config.trusted_proxy_header} is not the name of one user")
        g.principal = f"{name} via proxy"
        return _foreign(config)
    scheme, given = _credentials()
    if given and config.api_token:
        if hmac.compare_digest(given, config.api_token.encode()):
            g.principal = TOKEN
            return _foreign(config) if scheme == "basic" else None
        return _count_wrong() or refuse(401, _needed(config))
    if config.sandbox and (path == _DESCRIPTION or not path.startswith(_API)):
        g.principal = _SANDBOX
    elif path != _OPEN_WITH_LESS:
        return refuse(401, _needed(config))
    return None


def _proxied(config: Config) -> str:
    """The user that a trusted proxy names, or nothing."""
    if not config.trusted_proxy_header:
        return ""
    name = request.headers.get(config.trusted_proxy_header, "").strip()
    return name if name and trusted(request.remote_addr or "", config.trusted_proxies) else ""


def trusted(address: str, proxies: tuple[str, ...]) -> bool:
    """Whether an address is one of the proxies'.

    Args:
        address: the TCP peer's, never one that a header names.
        proxies: addresses and networks.
    """
    try:
        peer = plain(address)
    except ValueError:
        return False
    return any(peer in ip_network(each, strict=False) for each in proxies)


def _credentials() -> tuple[str, bytes]:
    """The scheme and the token of the header Authorization; of Basic the token is the password."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    scheme, given = scheme.lower(), given.strip()
    if scheme == "bearer":
        return scheme, given.encode("utf-8", "replace")
    if scheme == "basic":
        try:
            return scheme, base64.b64decode(given, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return scheme, b""
    return scheme, b""


def _needed(config: Config) -> str:
    """What the sender must show."""
    if request.path.startswith(_API):
        if not config.api_token and not config.trusted_proxy_header:
            return "the API is off: DEPLOYER_API_TOKEN is not set"
        return "the header Authorization must be: Bearer <the token in DEPLOYER_API_TOKEN>"
    if config.api_token:
        return "sign in with any user name, and the token in DEPLOYER_API_TOKEN as the password"
    if config.trusted_proxy_header:
        return "sign in at the proxy in front of deployer, which must send the header in DEPLOYER_TRUSTED_PROXY_HEADER"
    return (
        "pages and metrics are closed: set DEPLOYER_API_TOKEN, or DEPLOYER_TRUSTED_PROXY_HEADER"
        " with DEPLOYER_TRUSTED_PROXIES"
    )


def _count_wrong() -> Response | None:
    """Count a wrong token; the refusal of an address that sent too many. A right token never comes here."""
    wrong: WrongTokens = current_app.extensions["deployer-wrong-tokens"]
    current_app.extensions["deployer-metrics"].wrong_token()
    address = request.remote_addr or ""
    number, seconds = wrong.count(address)
    if number == FROM_ADDRESS:
        _log.warning("%d wrong API tokens from %s within a minute", number, address)
    if not seconds:
        return None
    refusal = refuse(429, "too many wrong tokens; try again later, or with the right one at any time")
    refusal.headers["Retry-After"] = str(math.ceil(seconds))
    return refusal


def _foreign(config: Config) -> Response | None:
    """The refusal of a change that another site's page had a browser ask for.

    Browsers add the password of Basic by themselves, and a proxy its header. Each browser sends `Origin` with a request
    that may change something, and `Sec-Fetch-Site` where the page came by TLS; other programs send neither.
    """
    if request.method in _SAFE:
        return None
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        own = site in {"same-origin", "none"}
    elif origin is not None:
        own = urlsplit(origin).netloc in {request.host, urlsplit(config.public_url).netloc} - {""}
    else:
        own = True
    return None if own else refuse(403, "another site's page asked for this; only deployer's own may")


def _record(response: Response) -> Response:
    """Log who asked for a change."""
    if request.method not in _SAFE and (name := principal()):
        _log.info("%s %s by %s: %d", request.method, log_path(), name, response.status_code)
    return response

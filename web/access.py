"""Authenticates every request before a handler runs.

Webhooks have their own secrets; `/healthz`, `/readyz` and the style sheet are public. Every other path, also one that
does not exist, needs the API token or the header of a trusted proxy. In the sandbox, pages and metrics are public,
because all its secrets are. See docs/decisions/0018-who-may-open-pages.md.
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
from web.answers import error_response, log_path
from web.context import TOKEN, deployer, principal
from web.throttle import FROM_ADDRESS, WrongTokens, parse_address

_log = logging.getLogger("deployer.web.access")
_API = "/api/"
_DESCRIPTION = "/api/v1/openapi.json"
_WEBHOOKS = "/webhooks/"
_STATIC = "/static/"
_OPEN = "/healthz"
_PUBLIC_WITHOUT_DETAILS = "/readyz"
_SAFE = {"GET", "HEAD", "OPTIONS"}
_NAME = re.compile(r"[A-Za-z0-9@._+:|=/\\-][A-Za-z0-9@._+:|=/\\ -]{0,99}")
_SANDBOX = "sandbox"


def register(app: Flask) -> None:
    """Authenticate every request of the application."""
    app.extensions["deployer-wrong-tokens"] = WrongTokens()
    app.before_request(_separate_webhook_port)
    app.before_request(_set_principal_or_reject)
    app.after_request(_log_change)


def _separate_webhook_port() -> None:
    """If webhooks have a separate port, serve only them there, and everything else on the other port.

    Raises:
        NotFound: the path is served on the other port.
    """
    own = deployer().config.webhook_port
    if own and request.path != _OPEN:
        arrived = request.environ.get("SERVER_PORT") == str(own)
        if arrived != request.path.startswith(_WEBHOOKS):
            raise NotFound


def _set_principal_or_reject() -> Response | None:
    """Set the principal, or return an error. Errors are not logged, because strangers could then fill the log."""
    path = request.path
    g.principal = ""
    if path == _OPEN or path.startswith((_WEBHOOKS, _STATIC)):
        return None
    config = deployer().config
    if name := _proxy_user(config):
        if not _NAME.fullmatch(name):  # the proxy may forward the sender's own header besides its own
            return error_response(
                401, f"the header {config.trusted_proxy_header} is not the name of one user"
            )
        g.principal = f"{name} via proxy"
        return _reject_cross_site(config)
    scheme, given = _read_credentials()
    if given and config.api_token:
        if hmac.compare_digest(given, config.api_token.encode()):
            g.principal = TOKEN
            return _reject_cross_site(config) if scheme == "basic" else None
        return _count_wrong_token() or error_response(401, _authentication_hint(config))
    if config.sandbox and (path == _DESCRIPTION or not path.startswith(_API)):
        g.principal = _SANDBOX
    elif path != _PUBLIC_WITHOUT_DETAILS:
        return error_response(401, _authentication_hint(config))
    return None


def _proxy_user(config: Config) -> str:
    """Return the user that a trusted proxy names, or an empty text."""
    if not config.trusted_proxy_header:
        return ""
    name = request.headers.get(config.trusted_proxy_header, "").strip()
    return name if name and is_trusted_proxy(request.remote_addr or "", config.trusted_proxies) else ""


def is_trusted_proxy(address: str, proxies: tuple[str, ...]) -> bool:
    """Whether an address belongs to a trusted proxy.

    Args:
        address: the address of the TCP peer, never one from a header.
        proxies: addresses and networks.
    """
    try:
        peer = parse_address(address)
    except ValueError:
        return False
    return any(peer in ip_network(each, strict=False) for each in proxies)


def _read_credentials() -> tuple[str, bytes]:
    """Return scheme and token of the header Authorization; for Basic the token is the password."""
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


def _authentication_hint(config: Config) -> str:
    """Return an error text that says how to authenticate."""
    if request.path.startswith(_API):
        if not config.api_token and not config.trusted_proxy_header:
            return "the API is disabled: DEPLOYER_API_TOKEN is not set"
        return "the header Authorization must be: Bearer <the token in DEPLOYER_API_TOKEN>"
    if config.api_token:
        return "sign in with any user name, and the token in DEPLOYER_API_TOKEN as the password"
    if config.trusted_proxy_header:
        return "sign in at the proxy in front of deployer, which must send the header in DEPLOYER_TRUSTED_PROXY_HEADER"
    return (
        "pages and metrics are disabled: set DEPLOYER_API_TOKEN, or DEPLOYER_TRUSTED_PROXY_HEADER"
        " with DEPLOYER_TRUSTED_PROXIES"
    )


def _count_wrong_token() -> Response | None:
    """Count a wrong token, and return an error if the address sent too many. Correct tokens are never limited."""
    wrong: WrongTokens = current_app.extensions["deployer-wrong-tokens"]
    current_app.extensions["deployer-metrics"].count_wrong_token()
    address = request.remote_addr or ""
    number, seconds = wrong.count(address)
    if number == FROM_ADDRESS:
        _log.warning("%d wrong API tokens from %s within a minute", number, address)
    if not seconds:
        return None
    refusal = error_response(429, "too many wrong tokens; try again later, or now with the correct one")
    refusal.headers["Retry-After"] = str(math.ceil(seconds))
    return refusal


def _reject_cross_site(config: Config) -> Response | None:
    """Return an error if a page of another site made a browser send a request that changes something (CSRF).

    Browsers add the password of Basic automatically, and a proxy adds its header. Browsers send `Origin` with every
    request that can change something, and `Sec-Fetch-Site` if the page came over TLS; other programs send neither.
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
    return (
        None if own else error_response(403, "a page of another site sent this request, which is not allowed")
    )


def _log_change(response: Response) -> Response:
    """Log who requested a change."""
    if request.method not in _SAFE and (name := principal()):
        _log.info("%s %s by %s: %d", request.method, log_path(), name, response.status_code)
    return response

"""Creates the WSGI application."""

from flask import Flask

from deployer.redis_store.circuit_breaker import RedisCircuitBreaker
from deployer.redis_store.sharing_client import run_together
from deployer.settings.loading import REQUIRED_FOR_WEB, require_settings
from deployer.wiring import Deployer, build
from web import access, answers, api, health, metrics, page_filters, pages, receiver
from web.push_shortcut import PushShortcut

REDIS_SECONDS = 0.7  # so that a 503 is sent within a second
_SMALL_BODY = 64 * 1024  # the limit of all bodies except those of webhooks, which have a limit of their own


def create_app(deployer: Deployer | None = None) -> Flask:
    """Create the WSGI application.

    Args:
        deployer: the parts; by default they are built from the settings of the process.

    Raises:
        ConfigError: a setting is missing or malformed; the text is one line that names it.
    """
    deployer = deployer or build(budget=RedisCircuitBreaker(REDIS_SECONDS))
    require_settings(deployer.config, *REQUIRED_FOR_WEB)
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = _SMALL_BODY
    app.json.sort_keys = False  # type: ignore[attr-defined]  # keep the order in which the code lists the fields
    app.extensions["deployer"] = deployer
    app.extensions["deployer-metrics"] = metrics.Metrics(deployer)
    app.extensions["deployer-run-together"] = run_together
    if deployer.budget:
        app.before_request(deployer.budget.start_request)
    access.register(app)
    answers.register(app)
    app.jinja_env.finalize = page_filters.escape_invisible
    for part in (receiver, api, health, pages, page_filters):
        app.register_blueprint(part.blueprint)
    shortcut = PushShortcut(app.wsgi_app, deployer, app.extensions["deployer-metrics"])
    app.wsgi_app = shortcut  # type: ignore[method-assign]  # as Flask's documentation advises
    return app

"""Makes the WSGI application."""

from flask import Flask

from deployer.redis_store.circuit_breaker import Budget
from deployer.settings.loading import REQUIRED_FOR_WEB, require
from deployer.wiring import Deployer, build
from web import access, answers, api, health, metrics, pages, receiver

REDIS_SECONDS = 0.7  # a 503 is to be there within a second
_SMALL_BODY = 64 * 1024  # of everything but a webhook, which reads its own body


def create_app(deployer: Deployer | None = None) -> Flask:
    """Make the WSGI application.

    Args:
        deployer: the wired parts; by default those of the process's own settings.

    Raises:
        ConfigError: a setting is missing or malformed; one line that names it.
    """
    deployer = deployer or build(budget=Budget(REDIS_SECONDS))
    require(deployer.config, *REQUIRED_FOR_WEB)
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = _SMALL_BODY
    app.json.sort_keys = False  # type: ignore[attr-defined]  # an answer reads best in the order it was written
    app.extensions["deployer"] = deployer
    app.extensions["deployer-metrics"] = metrics.Metrics(deployer)
    if deployer.budget:
        app.before_request(deployer.budget.begin)
    access.register(app)
    answers.register(app)
    app.jinja_env.finalize = pages.shown
    for part in (receiver, api, health, pages):
        app.register_blueprint(part.blueprint)
    return app

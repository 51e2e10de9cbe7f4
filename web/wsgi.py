"""The WSGI application that `deployer web` serves: `gunicorn --config python:web.gunicorn_conf web.wsgi:app`.

Another WSGI server can serve it if it does what `web.front` does: it must parse requests strictly, read each completely
before a thread handles it, limit the total time of each, and limit the memory and disk that all bodies use.
"""

import logging
import sys

from deployer.model.errors import ConfigError
from deployer.queue.progress_log import setup_logging
from deployer.redis_store.circuit_breaker import RedisCircuitBreaker
from deployer.settings.startup import check_secrets
from deployer.wiring import build, check_redis
from web.application import REDIS_SECONDS, create_app

# with exit code 4 of a worker gunicorn stops; with most others it would restart the worker forever
_GUNICORN_STOPS = 4

try:
    _deployer = build(budget=RedisCircuitBreaker(REDIS_SECONDS))
    check_secrets(_deployer.config)
    _redis_warning = check_redis(_deployer.config)
    setup_logging(_deployer.config.log_level, "web")
    if _redis_warning:
        logging.getLogger("deployer.start").warning("%s", _redis_warning)
    app = create_app(_deployer)
except ConfigError as error:
    print(f"deployer: {error}", file=sys.stderr)
    raise SystemExit(_GUNICORN_STOPS) from None

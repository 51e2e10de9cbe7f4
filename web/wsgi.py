"""What gunicorn serves: `gunicorn --config python:web.gunicorn_conf web.wsgi:app`, as `deployer web` has it do.

Another WSGI server may serve it too. It must then do by itself what `web.front` does: read requests strictly and whole
before a thread is theirs, end slow ones by the total time they take, and bound the memory and disk of all bodies.
"""

import logging
import sys

from deployer.model.errors import ConfigError
from deployer.redis_store.circuit_breaker import Budget
from deployer.settings.startup import check_secrets
from deployer.wiring import build, check_redis, setup_logging
from web.application import REDIS_SECONDS, create_app

# gunicorn starts a worker that ended with anything but 3 or 4 again, for ever; with 4 it stops as a whole
_GUNICORN_GIVES_UP = 4

try:
    _deployer = build(budget=Budget(REDIS_SECONDS))
    check_secrets(_deployer.config)
    _redis_warning = check_redis(_deployer.config)
    setup_logging(_deployer.config, "web")
    if _redis_warning:
        logging.getLogger("deployer.start").warning("%s", _redis_warning)
    app = create_app(_deployer)
except ConfigError as error:
    print(f"deployer: {error}", file=sys.stderr)
    raise SystemExit(_GUNICORN_GIVES_UP) from None

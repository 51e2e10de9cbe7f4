"""gunicorn's settings, for `gunicorn --config python:web.gunicorn_conf web.wsgi:app`; flags override them.

One process: its event loop reads the connections, and its threads (`web.front.limits`) wait for Redis and hardly
compute. With one process `/metrics` tells of every request. For more than one machine or core, run more of these
processes behind a proxy and let Prometheus scrape each: with several gunicorn workers under one port, the receiver's
own numbers would be those of whichever worker happened to answer. What is counted in Redis is the same from all of
them.
"""

worker_class = "web.front.worker.FrontWorker"
workers = 1
timeout = 60  # an event loop that has not gone round for so long hangs: gunicorn replaces its process
graceful_timeout = 30  # a request under way is answered before the process ends
accesslog = None  # an access log holds what people put into URLs; every delivery is logged by its id instead

"""gunicorn's settings, for `gunicorn --config python:web.gunicorn_conf web.wsgi:app`; flags override them.

One process with threads: a request waits for Redis and for the sender's bytes and hardly computes, and with one
process `/metrics` tells of every request. For more than one machine or core, run more of these processes behind a
proxy and let Prometheus scrape each: with several gunicorn workers under one port, the receiver's own numbers would
be those of whichever worker happened to answer. What is counted in Redis is the same from all of them.
"""

worker_class = "gthread"
workers = 1
threads = 16
timeout = 60
graceful_timeout = 30  # a request under way is answered before the process ends
keepalive = 5
accesslog = None  # an access log holds what people put into URLs; every delivery is logged by its id instead

"""The web process: webhooks, API, dashboard, metrics.

It stores no state between requests except in Redis, so any number of web processes may run. This module imports
nothing, because gunicorn's main process survives reloads and must not contain the application's code.
"""

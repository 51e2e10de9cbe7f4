"""The web process: webhooks, API, dashboard and metrics. `web.front` serves `web.application` under gunicorn.

It holds nothing between requests: whatever must survive is in Redis, so any number of these processes may run. This
module imports nothing: gunicorn's main process, which lives through reloads, must not hold the application's code.
"""

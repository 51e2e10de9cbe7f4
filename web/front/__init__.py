"""The HTTP server: it reads complete requests, within limits of time, memory and disk, before the application runs.

One event loop reads all connections, so a slow sender costs a few kilobytes and no thread. A complete request goes to
one of a few threads, which run the WSGI application. gunicorn binds the ports, and starts and replaces the processes;
the module `worker` connects both. docs/decisions/0017-web-server.md gives the reasons.
"""

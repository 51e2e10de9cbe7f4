"""Reads whole requests from the network, within limits of time, memory and disk, before the application sees them.

One event loop reads all connections, so a slow sender costs a few kilobytes and no thread. A complete request goes to
one of a few threads, which run the WSGI application. `worker` puts this under gunicorn, which binds the ports, starts
the processes and replaces them. The choice is recorded in docs/decisions/0017-web-server.md.
"""

"""Tests of the web process, with Flask's test client and a Redis in memory."""

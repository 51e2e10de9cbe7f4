"""Tests of the web process, by Flask's client against lanes in a Redis in memory."""

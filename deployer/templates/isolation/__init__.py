"""Evaluates a branch's files in a child process with limits, because anybody can push a branch."""

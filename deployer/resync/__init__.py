"""Compares a whole repository with GitHub and AWS, then queues the differences."""

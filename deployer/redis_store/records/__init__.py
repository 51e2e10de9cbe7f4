"""The records of repositories in Redis, one kind of record in each module."""

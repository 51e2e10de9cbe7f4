"""The adapter of Redis: queues, records, locks, and data that all workers share."""

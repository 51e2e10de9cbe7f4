"""The adapter of Redis: queues, records, locks and what the workers share."""

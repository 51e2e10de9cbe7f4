"""What GitHub should show: stored for each commit, and posted outside the queues."""

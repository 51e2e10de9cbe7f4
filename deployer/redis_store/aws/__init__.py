"""What all workers share about AWS, stored in Redis."""

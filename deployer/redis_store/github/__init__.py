"""What all processes share about GitHub."""

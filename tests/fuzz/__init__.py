"""Bad input: what is tried on the code that reads what others wrote, and what must hold whatever they wrote."""

"""What every step on one environment shares."""

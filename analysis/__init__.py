"""From logs to what is printed."""

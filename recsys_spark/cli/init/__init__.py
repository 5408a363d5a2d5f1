"""From logs to a settings file."""

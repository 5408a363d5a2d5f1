"""From logs to a settings file: schema inference for `recsys-spark init`."""

"""From landed files to events and the catalogue, exactly once; what cannot be read is quarantined."""

"""One file a candidate source, found by being here."""

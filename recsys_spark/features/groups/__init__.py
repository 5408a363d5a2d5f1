"""One file a group of features, found by being here."""

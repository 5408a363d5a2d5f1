"""How likely an item was seen at a place of a list."""

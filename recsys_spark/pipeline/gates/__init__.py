"""Gates: every bound that a bundle has to keep before it is published."""

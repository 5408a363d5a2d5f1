"""Tables: declared once in `catalog`, rendered for Spark and Arrow, checked, and the only place that touches storage."""

"""Tables: declared once, rendered for Spark and Arrow, checked; the only place that touches storage."""

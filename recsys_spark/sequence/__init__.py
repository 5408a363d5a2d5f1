"""Next-item models on ordered histories."""

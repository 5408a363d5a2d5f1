"""What a deployment takes, before machines are bought."""

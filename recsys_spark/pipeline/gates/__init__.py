"""Every bound that a bundle has to keep."""

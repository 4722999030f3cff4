"""Private linear models."""

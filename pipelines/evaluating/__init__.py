"""Running pipelines over evaluation data."""

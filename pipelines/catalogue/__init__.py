"""The catalogue of operators and resources by short name."""

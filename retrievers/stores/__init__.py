"""Vector stores of other projects."""

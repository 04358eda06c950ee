"""Pipeline definitions as YAML files."""

"""Training of routers on labelled queries."""

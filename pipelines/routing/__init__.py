"""Routers and what they route to: questions labelled by outcomes, routers measured by them."""

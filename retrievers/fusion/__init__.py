"""Fusion: several rankings into one."""

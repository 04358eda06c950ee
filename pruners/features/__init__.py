"""Tier 1: a small trained head over features of sentences that relate them to the passages."""

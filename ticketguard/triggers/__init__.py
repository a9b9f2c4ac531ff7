"""Triggers: secret pictures with secret labels, and the exact test of somebody's answers to them."""

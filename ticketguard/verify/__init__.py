"""Verifying: read a suspect, align it, test it, decide. Nothing here imports torch."""

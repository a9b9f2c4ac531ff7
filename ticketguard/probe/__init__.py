"""Probing: asking a model behind an API about the triggers, politely, and judging its answers one by one."""

"""Attacks on signed models, one per file, behind one literal table. An attack acts; the suite measures it."""

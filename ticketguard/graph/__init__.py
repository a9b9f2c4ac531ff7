"""Graphs of a ticket: cells and frame, symmetry groups, alignment, the channel graph and its scores. No torch."""

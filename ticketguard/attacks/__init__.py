"""Attacks on signed models, one per file, behind one literal table. An attack acts; the suite measures it."""

from __future__ import annotations

from ticketguard.attacks.base import Attack, Attacked, Victim
from ticketguard.attacks.registry import ATTACKS, make

__all__ = ["ATTACKS", "Attack", "Attacked", "Victim", "make"]

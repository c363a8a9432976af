"""Reconcile: compare facts with rollups and with the books, report and repair."""

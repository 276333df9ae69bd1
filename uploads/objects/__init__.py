"""Stored objects: the ledger, and what reads, checks, copies and removes them."""

"""Stored objects: the ledger, and reading, checking, copying and removing them."""

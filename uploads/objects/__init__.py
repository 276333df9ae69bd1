"""Stored objects and their ledger."""

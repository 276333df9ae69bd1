"""Uploads that take more than one request: their sessions, and the protocols that they follow."""

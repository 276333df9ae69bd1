"""gunicorn's worker, without a thread for a client that is slow."""

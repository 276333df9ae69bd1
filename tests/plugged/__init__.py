"""An app that plugs in one of each and edits nothing else."""

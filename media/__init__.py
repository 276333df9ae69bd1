"""Looks into untrusted media files.

:mod:`media.inspection` is the interface; :mod:`media.sandbox` runs ``python -m media``, a process without Django,
secrets, network, or the right to open a second file. Nothing that it imports may import Django.
"""

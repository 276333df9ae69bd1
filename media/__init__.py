"""Looks into untrusted media files.

:mod:`media.inspection` is the interface; :mod:`media.sandbox` runs ``python -m media``, a process without Django,
secrets, network or a second file, in which all readers and decoders run. They must not import Django.
"""

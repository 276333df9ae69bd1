"""What we measure, each beside its peer or its limit. ``python -m benchmarks`` runs all, ``-m benchmarks.upload`` one.

Absolute figures differ from machine to machine, and so does what else is running: a figure is worth its ratio to what
was measured in the same run, by turns with it. Nothing here is a test.
"""

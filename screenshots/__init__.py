"""Pictures of the pages, taken from the running product: for the README, and for looking at all of them.

``python -m screenshots`` makes those of the README anew; ``python -m screenshots DIRECTORY`` photographs every page and
every list of the administration, on a wide and on a narrow screen, in light and in dark.
"""

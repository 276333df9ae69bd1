"""Looking into media files that nobody trusts.

Django calls :mod:`media.inspection`. That starts ``python -m media`` through
:mod:`media.sandbox`: a process without Django, secrets, network, or the right to open a second file, in which
``examine`` and ``image`` run. Nothing imported there may import Django.
"""

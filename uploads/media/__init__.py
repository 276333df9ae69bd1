"""Looking into media files that nobody trusts.

Django calls :mod:`uploads.media.inspection`. That starts ``python -m uploads.media`` through
:mod:`uploads.media.sandbox`: a process without Django, secrets, network, or the right to open a second file, in which
``decode``, ``facts``, ``artwork`` and ``image`` run. Nothing imported there may import Django.
"""

"""One whole file per kind of outside system; each ends in ``KIND = Kind(…)`` and is found by ``daemon.kinds.discover``."""

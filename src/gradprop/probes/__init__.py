"""What is measured at a probe.

A study's own ``components.py`` gets the decorator of statistics here: ``from gradprop.probes import
statistic``.
"""

from gradprop.probes.own import NetworkLayer, statistic

__all__ = ["NetworkLayer", "statistic"]

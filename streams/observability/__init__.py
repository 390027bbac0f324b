"""Metrics, health, the watchdog and the throttle for library messages.

Imports no other package of ``streams`` but ``config``.
"""

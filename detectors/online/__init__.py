"""Detectors that learn record by record: ADWIN and half-space trees, and the scores of single records.

They know neither plans nor windows; ``layout``, ``baselines`` and ``windows`` use them.
"""

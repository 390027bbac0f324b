"""Stage 2: partial counts are merged, tested and turned into verdicts and alerts.

Never imports ``windows``.
"""

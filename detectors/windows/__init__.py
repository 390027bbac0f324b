"""Stage 1: records of a partition become counts of tumbling windows, change points and single-record events.

Never imports ``verdicts``.
"""

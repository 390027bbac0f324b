"""Fits baselines from training columns, and says what they arm.

Imported by the command line; no stage imports it.
"""

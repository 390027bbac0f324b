"""States of both stages as checked bytes, and back.

The topmost package: it imports both stages, and none of them imports it.
"""

"""The configuration: keys, their checks, where values come from, and the document that describes them.

Imports no other package of ``streams``.
"""

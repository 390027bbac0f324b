"""Bytes of records to documents and back: the only place that knows how records are written.

Knows no Kafka client.
"""

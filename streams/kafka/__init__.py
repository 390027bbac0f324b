"""Connections, topics, fetching, producing and reading through aiokafka.

Knows neither Faust nor the stages.
"""

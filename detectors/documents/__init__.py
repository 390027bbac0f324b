"""What crosses the border between the core and Kafka: predictions, baselines, partial counts, marks, alerts.

Everything above may import it; it imports the root modules alone.
"""

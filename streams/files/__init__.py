"""Training data and prediction logs in files: loading, schema inference, rows.

Needs the extra ``files``; knows no Kafka.
"""

"""What programs and operators do with the topics: log predictions, subscribe to alerts, publish baselines, look at and reset a deployment.

Knows no worker.
"""

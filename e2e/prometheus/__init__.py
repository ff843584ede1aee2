"""A Prometheus for a test cluster: its image, and the objects by which it reads the pods of one namespace.

Knows nothing of scenarios, and of Headrace only which pods have metrics and what the chart's PodMonitor calls them.
"""

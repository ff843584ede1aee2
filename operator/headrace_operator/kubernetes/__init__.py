"""The operator's way to Kubernetes: calls, watches, a cache, a queue, leadership, and the backend that uses them.

Owns every exchange with the API server and when it happens. Does not know how an object looks (`objects`), nor what to
do next (`reconcile`): it brings what is to those who decide, and what they decide to the cluster.
"""

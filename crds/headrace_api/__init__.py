"""The contract between the parts: custom resources, wire messages, and the names everyone shares.

Knows nothing of clusters, clients, torch or time; it imports none of the other packages.
"""

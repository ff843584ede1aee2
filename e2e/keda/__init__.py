"""KEDA in a test cluster: built from its Go module, run as pods, for the scenarios that scale by it.

Owns its images, its objects and its certificates. Knows nothing of Headrace.
"""

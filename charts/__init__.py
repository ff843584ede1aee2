"""The Helm chart and what writes its generated files.

Owns `headrace/` (the chart), `schema.yaml` (its values, from which schema, defaults and manual follow) and the
generator. It does not know what the operator does with its settings, nor any cluster.
"""

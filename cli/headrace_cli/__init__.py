"""The `headrace` command: reads files, draws progress, prints sentences.

Owns everything a user sees in a terminal, and exit codes; decides nothing about workers.
"""

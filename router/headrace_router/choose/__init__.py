"""Which worker decodes a request and which ones may prefill it.

It owns the score, the prefix index and the load as this router sees it, all plain data. It knows no connection, no
clock and no file.
"""

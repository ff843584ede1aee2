"""The OpenAI surface as far as a router needs it: what to read of a request, the seed, and the shape of errors.

It owns no validation beyond the fields it reads; the worker judges the rest of a request.
"""

"""The data path: HTTP/1.1 on both sides as plain asyncio protocols, and one exchange per request between them.

It owns framing, order, back-pressure and deadlines of connections. It does not know how a worker is chosen or what
a prompt says.
"""

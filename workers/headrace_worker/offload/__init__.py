"""KV blocks that the device has no room for: kept in host memory, and on disk below it.

Owns which block lies where (`tiers`, over `memory` and `disk`: pure), whether a load pays (`rates`: pure), the host
memory (`arena`), the files (`files`, `folder`, `storage`) and the thread that reads and writes them (`clerk`). Does not
know sequences, schedulers or tokens: blocks have hashes, and whoever waits for some is a number.
"""

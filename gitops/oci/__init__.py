"""Images as values: references, digests, manifests, archives, tar streams. Pure: no network, no processes, no store.

What is read here was written by strangers; every reader has limits and refuses with `errors.Invalid`.
"""

"""Compose files as input: read, merged and checked by Compose's rules, then made into our own manifests.

From here on there is one path: what a Compose file becomes are Services, Networks, Volumes, Secrets and Configs of a
stack, checked by the same models as written ones. `ledger` says of every key of the specification what happens to it.
"""

"""Files encrypted with SOPS for age keys: read for secrets and configs, and written for who starts with one.

`cipher` has the values and the code that seals the whole, `document` a file of any of the formats, `identities` the
operator's keys. The format is that of sops 3 (github.com/getsops/sops): what either of the two writes, the other reads.
"""

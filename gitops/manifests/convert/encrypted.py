"""Values of secrets and configs that stand in files encrypted with SOPS."""

from __future__ import annotations

import hashlib

from gitops.manifests.catalog import Catalog, Item
from gitops.manifests.desired import EncryptedSource
from gitops.manifests.kinds.storage import SopsSource
from gitops.manifests.problems import Issue
from gitops.manifests.repository import Refused
from gitops.manifests.sops import cipher, document, identities

_OVERHEAD = 4
"""An encrypted file is larger than what it holds, and may hold many values."""


def content(catalog: Catalog, item: Item, source: SopsSource, limit: int) -> bytes | None:
    """The value, decrypted if the operator's options want that, else a stand-in; None if it can't be had."""
    try:
        path = item.repository.resolve(item.directory, source.file)
        data = item.repository.read(path, _OVERHEAD * limit)
        form = source.format or document.form_of(path.name)
        file = document.parse(data, form)
        catalog.encrypted.append(
            EncryptedSource(item.kind, item.stack, item.name, item.repository.shown(path), dict(file.sealed))
        )
        if not catalog.options.opens_sops:
            return hashlib.sha256(data + (source.key or "").encode()).digest()
        return document.pick(document.decrypt(file, identities.read()), form, source.key or "")
    except Refused as error:
        issue = Issue(("spec", "sops", "file"), error.reason, error.hint)
    except document.Unreadable as error:
        issue = Issue(("spec", "sops"), f"{source.file} {error.reason}", error.hint)
    except identities.NoKey as error:
        issue = Issue(("spec", "sops"), f"{source.file} can't be decrypted: {error}")
    except cipher.Broken as error:
        issue = Issue(("spec", "sops"), f"{source.file} can't be trusted: {error}", "restore it, or edit it with sops")
    catalog.report(item, issue)
    return None

"""`security_opt` to what the API calls privileges."""

from __future__ import annotations

import json

from gitops.manifests.catalog import Catalog, Item
from gitops.manifests.kinds.security import Options
from gitops.manifests.problems import Issue
from gitops.manifests.repository import Refused
from gitops.objects.service import AppArmorOptions, Privileges, SeccompOptions, SELinuxContext

MAX_PROFILE = 500 * 1024
_UNCONFINED = "unconfined"


def privileges(catalog: Catalog, item: Item, options: Options | None) -> Privileges | None:
    """The privileges that the options mean; None for those that everybody has."""
    if not options:
        return None
    found = Privileges(
        selinux_context=SELinuxContext(disable=True) if "label" in options else None,
        seccomp=_seccomp(catalog, item, str(options.get("seccomp", "default"))),
        app_armor=AppArmorOptions("disabled") if options.get("apparmor") == _UNCONFINED else None,
        no_new_privileges=bool(options.get("no-new-privileges")),
    )
    return found if found != Privileges() else None


def _seccomp(catalog: Catalog, item: Item, value: str) -> SeccompOptions | None:
    if value == "default":
        return None
    if value == _UNCONFINED:
        return SeccompOptions(_UNCONFINED)
    try:
        data = item.repository.read(item.repository.resolve(item.directory, value), MAX_PROFILE)
        profile = json.loads(data)
    except Refused as error:
        _report(catalog, item, f"the seccomp profile: {error.reason}", error.hint)
    except (ValueError, RecursionError) as error:
        _report(catalog, item, f"the seccomp profile {value!r} is no JSON: {error}", "as in docker's default profile")
    else:
        if isinstance(profile, dict):
            return SeccompOptions("custom", data)
        _report(catalog, item, f"the seccomp profile {value!r} is no map", "as in docker's default profile")
    return None


def _report(catalog: Catalog, item: Item, reason: str, hint: str) -> None:
    catalog.report(item, Issue(("spec", "security_opt"), reason, hint))

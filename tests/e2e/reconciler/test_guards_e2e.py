"""What isn't taken away without an explicit word: most of a stack, protected objects, volumes, the rest of a part."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

NETWORK = """\
apiVersion: gitops/v1
kind: Network
metadata: {{name: {name}, stack: app, labels: {{gitops.protect: "{protect}"}}}}
---
"""
VOLUME = """\
apiVersion: gitops/v1
kind: Volume
metadata: {name: data, stack: app}
"""


def networks(*names: str, protect: str = "false") -> str:
    return "".join(NETWORK.format(name=name, protect=protect) for name in names)


def test_guards_refuse_with_a_way_out_and_change_nothing(engine_host: Any, project: Any) -> None:
    path = project({"one.yaml": networks("one"), "more.yaml": networks("two", "three", "four"), "data.yaml": VOLUME})

    def gitops(*arguments: Any, code: int) -> str:
        done = engine_host.gitops(*arguments, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return str(done.stdout + done.stderr)

    def there() -> set[str]:
        found = {item["Name"] for item in engine_host.api("/networks")} | {
            item["Name"] for item in engine_host.api("/volumes")["Volumes"] or []
        }
        return {name.removeprefix("app_") for name in found if name.startswith("app_")}

    gitops("apply", path, "--yes", code=0)
    (path / "more.yaml").write_text("")
    text = "3 of the 4 objects of stack 'app' would be deleted (network four, network three, network two)"
    assert text in gitops("diff", path, code=5)
    assert text in gitops("apply", path, "--yes", code=5) and text in gitops("watch", path, "--once", code=5)

    (path / "more.yaml").write_text(networks("two", "three", "four", protect="true"))
    gitops("apply", path, "--yes", code=0)
    (path / "more.yaml").write_text(networks("two", "three", protect="true"))
    assert "network app_four is protected and would be deleted" in gitops("apply", path, "--yes", code=5)
    assert "network app_two is protected" in gitops("delete", "app", "--yes", code=5)
    assert there() == {"one", "two", "three", "four", "data"}

    told = gitops("apply", path / "one.yaml", "--yes", code=0)
    assert "one.yaml is only a part of the source of stack 'app': nothing is pruned" in told
    (path / "one.yaml").write_text(networks("five"))
    gitops("apply", path / "one.yaml", "--yes", code=0)
    assert there() == {"one", "two", "three", "four", "five", "data"}

    (path / "more.yaml").write_text(networks("two", "three", "four"))
    gitops("apply", path, "--yes", code=0)  # the whole source again: what left it goes, and nothing is protected
    (path / "more.yaml").write_text(networks("two"))
    (path / "data.yaml").write_text("")
    gitops("apply", path, "--yes", code=0)
    assert there() == {"two", "five", "data"}
    gitops("apply", path, "--yes", "--prune-volumes", code=0)
    assert there() == {"two", "five"}
    gitops("delete", "app", "--yes", code=0)
    assert there() == set()

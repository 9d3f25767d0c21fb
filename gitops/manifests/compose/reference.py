"""`docs/compose.md`, made of the ledger: `python -m gitops.manifests.compose.reference [--check]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from gitops.manifests.compose import ledger
from gitops.manifests.compose.shapes import Status

FILE = Path(__file__).resolve().parents[3] / "docs" / "compose.md"
_MEANINGS: dict[Status, str] = {
    "honoured": "it means what the specification says",
    "emulated": "the same by other means, as the note says",
    "meaningless": "it says nothing about a deployment, and is passed over",
    "warned": "it has no effect, and a warning says so",
    "refused": "it is an error with its place, since leaving it out would change what is meant",
}
_HEAD = """\
# Compose files

<!-- Made by `python -m gitops.manifests.compose.reference`: don't edit, change gitops/manifests/compose/. -->

A file with `services:` and no `kind:` is a Compose file, and becomes a stack: `gitops validate`, `diff`, `apply` and
`watch` take it as they take manifests, and both may stand in one directory.

* **Which files.** In a directory: `compose.yaml`, `compose.yml`, `docker-compose.yml` or `docker-compose.yaml`, with
  its `compose.override.yaml` laid over it; in a directory without those, each Compose file is a project of its own. A
  file that is named is taken alone. `--compose-file FILE`, repeated, lays files over each other in order,
  relative to PATH.
* **The stack** is called as `--project-name` says, else as the file's `name:`, else COMPOSE_PROJECT_NAME, else after
  the directory. Services keep their names; objects with a `name:` have that name on the engine.
* **Variables** (`$A`, `${A:-default}`, `${A:?message}`, `${A:+other}`, nested; `$$` is a dollar) come from the
  environment, then from `.env` beside the file, or from what `--env-file` names in its place. `watch --repo` closes
  the environment: there `.env` is all. What isn't set stands for nothing, with a warning.
* **Merging.** Maps are merged key by key, lists appended and kept unique (ports, mounts, secrets, configs by what they
  are), `command`, `entrypoint` and `healthcheck.test` replaced. `!reset` takes away, `!override` replaces as a whole.
* **extends, include, profiles, env_file, label_file** work as in Compose, within the repository; circles are refused
  with their chain. `--profile NAME` or COMPOSE_PROFILES runs the services of a profile.
* **A relative bind mount** becomes an absolute path, from the project's directory, as `docker stack deploy` has it: the
  path must be there on each node that runs the service.
* **On the command line** `--compose-file`, `--env-file`, `--profile` and `--project-name` may be given to `validate`,
  `render`, `diff`, `apply` and `watch`. `diff --out` keeps them in the plan, so that `apply FILE` needs none of them.
* **`gitops render`** prints a project as manifests of our own kinds that ask for the very same objects. Their relative
  paths start from the project's directory.
* **Images aren't built.** A service with `build` and no `image` has the name that Compose gives its image; an Image
  manifest beside the file may say how it is made.

`gitops compose` prints the figures below and, with `--keys`, every key with what happens to it.
"""


def text() -> str:
    """The document."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _HEAD
    yield "## Figures"
    yield ""
    figures = ledger.figures()
    yield f"The specification has {sum(figures.values())} keys, counted at every place where one may stand."
    yield ""
    yield "| Status | Keys | Meaning |"
    yield "| --- | ---: | --- |"
    for status, count in figures.items():
        yield f"| {status} | {count} | {_MEANINGS[status]} |"
    yield ""
    yield "## Keys"
    yield ""
    yield "| Key | Status | Note |"
    yield "| --- | --- | --- |"
    for path, key in ledger.entries():
        yield f"| `{path}` | {key.status} | {key.note} |"


def main(arguments: list[str]) -> int:
    """Write the document, or with --check say whether it is current; returns the exit code."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m gitops.manifests.compose.reference [--check]", file=sys.stderr)
        return 1
    wanted = text()
    is_current = FILE.is_file() and FILE.read_text() == wanted
    if arguments and not is_current:
        print("docs/compose.md isn't current: run python -m gitops.manifests.compose.reference", file=sys.stderr)
        return 1
    if not is_current:
        FILE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

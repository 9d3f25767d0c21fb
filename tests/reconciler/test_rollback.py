"""Which revision is gone back to, what stays for it, and what is said when something is gone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gitops import errors
from gitops.manifests import DesiredSet, StackSettings
from gitops.objects import base
from gitops.objects.container import ContainerConfig
from gitops.objects.image import ImageInspect, RootFS
from gitops.objects.secret import Config, Secret, SecretSpec
from gitops.reconciler import history, planner, retention, revisions, rollback, stored
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Action
from gitops.reconciler.record import Outcome, Record
from gitops.reconciler.revisions import Body, Head, Revision, Stored

DIGEST = "sha256:" + "a" * 64


def revision(number: int, digest: str, outcome: Outcome = Outcome.APPLIED, *objects: Stored) -> Revision:
    head = Head("app", number, digest=digest, outcome=outcome, commit="c" * 40, started_at="2026-01-01T00:00:00Z")
    return Revision(head, Config(), revisions.encode(Body(objects=list(objects), settings={"prune": True})))


def secret(name: str) -> Stored:
    spec = msgspec.Raw(base.to_json(SecretSpec(name=name)))
    return Stored("Secret", "app", name.rpartition("-")[0].removeprefix("app_"), name, "a.yaml:1", spec, {})


def image(reference: str) -> Stored:
    spec = msgspec.Raw(base.to_json({"reference": reference, "pull": ""}))
    known = {"digest": DIGEST, "image_id": "", "name": ""}
    return Stored("Image", "app", "app", reference, "a.yaml:1", spec, {}, image=known)


def live(*found: Revision, **more: Any) -> Live:
    return Live(revisions={"app": list(found)}, **more)


def live_secret(name: str) -> Secret:
    labels = {"gitops.stack": "app", "gitops.kind": "Secret", "gitops.name": "key"}
    return Secret(id=name, spec=SecretSpec(name=name, labels=labels))


def inspect(name: str) -> ImageInspect:
    config, root = ContainerConfig(), RootFS()
    return ImageInspect("i", [], [f"{name}@{DIGEST}"], "", config, "amd64", "linux", 1, root)


def checked(target: Revision, seen: Live) -> None:
    desired, known = rollback.desired({"app": target})
    rollback.check({"app": target}, desired, known, seen)


def test_the_last_healthy_one_that_asked_for_something_else_is_gone_back_to() -> None:
    seen = live(revision(5, "b", Outcome.FAILED), revision(4, "b"), revision(3, "x", Outcome.FAILED), revision(2, "a"))
    assert rollback.target(seen, "app", None).number == 2
    assert rollback.target(seen, "app", 4).number == 4


def test_where_there_is_none_those_that_there_are_are_named() -> None:
    with pytest.raises(errors.NotFound, match="kept are 1"):
        rollback.target(live(revision(1, "a")), "app", None)
    with pytest.raises(errors.NotFound, match="no revision 9; kept are 2, 1"):
        rollback.target(live(revision(2, "b"), revision(1, "a")), "app", 9)
    with pytest.raises(errors.NotFound, match="gitops status"):
        rollback.target(Live(), "app", None)


def test_a_version_that_is_gone_is_refused_with_the_way_out() -> None:
    target = revision(1, "a", Outcome.APPLIED, secret("app_key-1"), image("app:v1"))
    tagged = inspect("app")
    checked(target, live(target, secrets={"app_key-1": live_secret("app_key-1")}, images={"app:v1": tagged}))
    moved = {f"app@{DIGEST}": tagged}
    checked(target, live(target, secrets={"app_key-1": live_secret("app_key-1")}, images=moved))
    with pytest.raises(errors.Refused, match=f"secret app_key-1, image app:v1@{DIGEST}; apply commit cccccccccccc"):
        checked(target, live(target))


def test_versions_that_kept_revisions_name_are_not_collected() -> None:
    names = [f"app_key-{number}" for number in range(3)]
    found = [revision(3, "c", Outcome.APPLIED, secret(names[2])), revision(2, "b", Outcome.APPLIED, secret(names[1]))]
    seen = live(*found, secrets={name: live_secret(name) for name in names})
    (wanted,) = stored.desired({"app": found[0].body})[0].objects
    desired = DesiredSet((wanted,), {"app": StackSettings("app")}, {})
    request = planner.Request(desired, {}, frozenset({"app"}), kept=retention.kept(seen, {"app"}))
    (step,) = planner.make(request, seen).steps
    assert step.action is Action.NONE and step.obsolete == (names[0],)
    without = planner.Request(DesiredSet((), desired.stacks, {}), {}, frozenset({"app"}), kept=request.kept)
    steps = {item.engine_name: item for item in planner.make(without, seen).steps}
    assert steps[names[0]].action is Action.DELETE
    assert steps[names[2]].action is Action.NONE and "rollbacks" in steps[names[2]].note


def test_what_goes_with_a_revision_that_is_pushed_out_is_known_before() -> None:
    many = [revision(number, str(number), Outcome.APPLIED, secret(f"app_key-{number}")) for number in range(10, 0, -1)]
    seen = live(*many)
    desired = DesiredSet((), {"app": StackSettings("app")}, {})
    request = planner.Request(desired, {}, frozenset({"app"}), kept=retention.kept(seen, {"app"}))
    assert retention.kept_after(seen, {"app"}, request, ()) == request.kept
    gone = request.kept - retention.kept_after(seen, {"app"}, request, ("app",))
    assert gone == {("Secret", "app_key-1")}


def test_an_apply_that_went_without_a_word_was_interrupted() -> None:
    going = revision(1, "a", Outcome.APPLYING)
    alive = Record("app", lease_holder="ann", lease_until="2026-01-01T00:00:20Z")
    assert history.outcome(going, alive, base.parse_time("2026-01-01T00:00:10Z")) is Outcome.APPLYING
    assert history.outcome(going, alive, base.parse_time("2026-01-01T00:00:30Z")) is Outcome.INTERRUPTED
    assert history.outcome(going, Record("app"), 0) is Outcome.INTERRUPTED
    assert history.row(going, Record("app"), 0)[2] == "interrupted"
    assert "Objects: 0" in history.details(going, Record("app"), 0)

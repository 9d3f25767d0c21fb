"""What a snapshot hides of services, and how what is hidden is compared."""

from __future__ import annotations

import pytest

from gitops.objects.mount import Mount, VolumeDriver, VolumeOptions
from gitops.objects.service import ContainerSpec, HealthConfig, LogDriver, ServiceSpec, TaskSpec
from gitops.reconciler import redaction
from gitops.reconciler.diff import HIDDEN


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DB_PASSWORD", "x"),
        ("dbPassword", "x"),
        ("PGPASS", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("API_TOKEN", "1"),
        ("SENTRY_DSN", "x"),
        ("DATABASE_URL", "postgres://app:hunter2@db/app"),
        ("CONFIG", '{"password": "hunter2"}'),
        ("EXTRA", "-----BEGIN EC PRIVATE KEY-----"),
        ("OTHER", "ghp_0123456789abcdefghij"),
        ("SEED", "f3a09c8812d04be7aa10c2d98e6b5f70"),
        ("BLOB", "eyJhbGciOiJIUzI1NiJ9.e30.x"),
    ],
)
def test_what_may_be_a_secret_is_hidden_by_its_name_or_its_form(name: str, value: str) -> None:
    assert redaction.is_private(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOG_LEVEL", "debug"),
        ("DB_PASSWORD_FILE", "/run/secrets/db"),
        ("URL", "https://example.com:8443/a"),
        ("DB_PASSWORD", ""),
        ("WORKERS", "16"),
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"),
        ("MONKEY", "banana"),
    ],
)
def test_what_is_no_secret_is_shown(name: str, value: str) -> None:
    assert not redaction.is_private(name, value)


def spec(password: str, level: str = "debug") -> ServiceSpec:
    driver = VolumeDriver("local", {"type": "cifs", "o": f"username=a,password={password}"})
    container = ContainerSpec(
        image="app:v1",
        env=[f"DB_PASSWORD={password}", f"LOG_LEVEL={level}", "EMPTY=", "UNSET"],
        command=["app"],
        args=["--password", password],
        healthcheck=HealthConfig(test=["CMD", "curl", f"http://u:{password}@localhost"], retries=3),
        labels={"api-token": password, "team": "web", "gitops.hash": "0" * 64},
        mounts=[Mount(type="volume", target="/data", volume_options=VolumeOptions(driver_config=driver))],
    )
    log = LogDriver("splunk", {"splunk-token": password, "tag": "x"})
    return ServiceSpec(
        name="app_web",
        labels={"gitops.hash": "1" * 64, "gitops.name": "web"},
        task_template=TaskSpec(container_spec=container, log_driver=log),
    )


def test_nothing_private_is_left_of_a_service_and_all_else_is() -> None:
    found = redaction.service(spec("hunter2"))
    assert "hunter2" not in repr(found) and "gitops.hash" not in repr(found)
    container, log = found.task_template.container_spec, found.task_template.log_driver
    assert container and log and container.healthcheck
    assert container.env == [f"DB_PASSWORD={HIDDEN}", "LOG_LEVEL=debug", "EMPTY=", "UNSET"]
    assert (container.command, container.args, container.healthcheck.test) == (["app"], [HIDDEN], [HIDDEN])
    assert container.labels == {"api-token": HIDDEN, "team": "web"} and log.options["tag"] == "x"
    assert redaction.service(found) == found


def test_all_variables_can_be_hidden() -> None:
    container = redaction.service(spec("hunter2"), all_variables=True).task_template.container_spec
    assert container and container.env[1] == f"LOG_LEVEL={HIDDEN}"


def test_what_is_hidden_is_taken_for_what_is_wanted_and_the_rest_is_as_it_is() -> None:
    wanted = spec("other", "info")
    filled = redaction.filled(redaction.service(spec("hunter2", "debug")), wanted)
    shown = redaction.service(filled)
    assert HIDDEN not in repr(filled) and "other" in repr(filled)
    assert filled.task_template != wanted.task_template and "LOG_LEVEL=debug" in repr(shown)
    assert redaction.filled(redaction.service(spec("hunter2", "info")), spec("x", "info")).task_template.log_driver == (
        spec("x").task_template.log_driver
    )


def test_versions_become_numbers_in_every_text_and_key() -> None:
    aliases = redaction.Aliases(["app_key-0123456789ab", "app_key-ba9876543210", "app_other-111122223333"])
    found = aliases.applied(
        {
            "name": "app_key-ba9876543210",
            "uses": ["app_key-0123456789ab"],
            "app_other-111122223333": {"v": "0123456789ab"},
        }
    )
    assert found == {"name": "app_key-2", "uses": ["app_key-1"], "app_other-1": {"v": HIDDEN}}
    told = "app_key-0123456789ab and /x/app_other-111122223333.txt, 0123456789abc, 111122223333"
    assert aliases.applied(told) == f"app_key-1 and /x/app_other-1.txt, 0123456789abc, {HIDDEN}"
    assert redaction.Aliases([]).applied({"a": 1}) == {"a": 1}

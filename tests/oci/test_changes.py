"""Dockerfile instructions as changes of a config."""

from __future__ import annotations

import pytest

from gitops import errors
from gitops.objects.container import ContainerConfig
from gitops.objects.service import HealthConfig
from gitops.oci import changes


def test_instructions_say_what_to_run() -> None:
    config = ContainerConfig(env=["PATH=/bin", "A=1"], labels={"a": "1"}, working_dir="/srv")
    changed = changes.apply(
        config,
        [
            'CMD ["httpd", "-f"]',
            "entrypoint echo hi\nENV A=2 B='two words'",
            "ENV C three words",
            "EXPOSE 80 53/udp 8000-8002",
            'LABEL b="2 3"',
            "VOLUME /data /logs",
            "WORKDIR www",
            "USER 1000:1000",
            "STOPSIGNAL SIGINT",
            "HEALTHCHECK --interval=1m30s --retries=3 CMD wget -q localhost",
        ],
    )
    assert changed.cmd == ["httpd", "-f"] and changed.entrypoint == ["/bin/sh", "-c", "echo hi"]
    assert changed.env == ["PATH=/bin", "A=2", "B=two words", "C=three words"]
    assert set(changed.exposed_ports or ()) == {"80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp"}
    assert changed.labels == {"a": "1", "b": "2 3"} and changed.volumes == {"/data": {}, "/logs": {}}
    assert (changed.working_dir, changed.user, changed.stop_signal) == ("/srv/www", "1000:1000", "SIGINT")
    assert changed.healthcheck == HealthConfig(
        test=["CMD-SHELL", "wget -q localhost"], interval=90_000_000_000, retries=3
    )


def test_an_entrypoint_takes_the_command_of_the_base_away() -> None:
    base = ContainerConfig(cmd=["sh"])
    assert changes.apply(base, ['ENTRYPOINT ["echo"]']).cmd is None
    assert changes.apply(base, ['CMD ["hi"]', 'ENTRYPOINT ["echo"]']).cmd == ["hi"]


def test_without_changes_a_config_stays() -> None:
    assert changes.apply(ContainerConfig(user="a"), ["", "# nothing"]) == ContainerConfig(user="a")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("RUN make", "RUN is not a valid change command"),
        ("CMD", "requires at least one argument"),
        ("EXPOSE 99999", "is not a port"),
        ("EXPOSE 8010-8000", "is not a port"),
        ("ENV A=1 B", "not of the form"),
        ("ENV 'A=1", "quotation"),
        ("HEALTHCHECK --interval=fast CMD true", "not a duration"),
        ("HEALTHCHECK --often=1s CMD true", "not an option"),
        ("HEALTHCHECK true", "followed by NONE"),
    ],
)
def test_what_is_no_change_is_refused_with_its_line(line: str, said: str) -> None:
    with pytest.raises(errors.Invalid, match=said) as caught:
        changes.apply(ContainerConfig(), [line])
    assert line.split()[0] in str(caught.value)

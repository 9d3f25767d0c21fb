"""What the options of an engine make, and the command line that says the same again."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from gitops import errors
from gitops.cli import engineoptions
from gitops.config import EngineConfig, TlsConfig
from gitops.daemon import commandline

ROOTS = {"data_root": Path("/d"), "run_root": Path("/r")}
FILES = {"tlscacert": Path("/ca"), "tlscert": Path("/cert"), "tlskey": Path("/key")}


@pytest.mark.parametrize(
    "config",
    [
        EngineConfig(),
        EngineConfig(Path("/d"), Path("/r"), "p", ("unix:///x", "tcp://1.2.3.4:5"), TlsConfig(*FILES.values())),
        EngineConfig(hosts=("tcp://1.2.3.4:5",), allow_plain_tcp=True),
    ],
)
def test_a_command_line_makes_the_settings_that_it_was_made_of(config: EngineConfig) -> None:
    made: list[EngineConfig] = []

    @click.command()
    @engineoptions.engine
    def command(log_level: str, **options: object) -> None:
        made.append(engineoptions.config_of(**options))  # type: ignore[arg-type]

    words = commandline.words(config, "debug")
    command.main(words[words.index("run") + 1 :], standalone_mode=False)
    assert made == [config]


def test_mutual_tls_needs_all_three_files() -> None:
    with pytest.raises(errors.Invalid, match="--tlscert, --tlskey must be given too"):
        engineoptions.config_of(**ROOTS, hosts=("tcp://1.2.3.4:5",), tlsverify=True, tlscacert=Path("/ca"))


def test_the_files_alone_ask_for_mutual_tls() -> None:
    assert engineoptions.config_of(**ROOTS, hosts=("tcp://1.2.3.4:5",), **FILES).tls == TlsConfig(*FILES.values())


def test_options_of_tcp_without_tcp_are_a_mistake() -> None:
    with pytest.raises(errors.Invalid, match="nothing listens there"):
        engineoptions.config_of(**ROOTS, **FILES)

"""Health checks: what a probe's result means for a container, and when the next one is due. Pure.

The rules are Docker's: within the start period failures don't count as long as no probe has succeeded; `retries`
failures in a row make it unhealthy; one success makes it healthy.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gitops.objects import base, defaults
from gitops.objects.container import Health, HealthResult
from gitops.objects.service import HealthConfig

NONE = "none"
STARTING = "starting"
HEALTHY = "healthy"
UNHEALTHY = "unhealthy"
MAX_OUTPUT = 4096
"""Bytes of a probe's output that are kept."""
MAX_LOG = 5
"""Results that are kept."""
TIMED_OUT = -1
"""The exit code of a probe that took too long."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A health check with every value set; times in nanoseconds."""

    args: tuple[str, ...]
    interval: int
    timeout: int
    start_period: int
    start_interval: int
    retries: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where a container's health stands."""

    status: str = STARTING
    failing_streak: int = 0
    log: tuple[HealthResult, ...] = field(default=())

    def shown(self) -> Health:
        """As inspection shows it."""
        return Health(status=self.status, failing_streak=self.failing_streak, log=list(self.log))


def probe_of(config: HealthConfig | None) -> Probe | None:
    """The check that `config` asks for, None for none."""
    if config is None or not config.test or config.test[0] == "NONE" or len(config.test) < 2:
        return None
    kind, *words = config.test
    return Probe(
        args=("/bin/sh", "-c", *words) if kind == "CMD-SHELL" else tuple(words),
        interval=config.interval or defaults.HEALTH_INTERVAL,
        timeout=config.timeout or defaults.HEALTH_TIMEOUT,
        start_period=config.start_period,
        start_interval=config.start_interval or defaults.HEALTH_START_INTERVAL,
        retries=config.retries or defaults.HEALTH_RETRIES,
    )


def judge(before: Verdict, result: HealthResult, probe: Probe, since_start_ns: int) -> Verdict:
    """`before` and one more result, which came `since_start_ns` after the container's start."""
    log = (*before.log, result)[-MAX_LOG:]
    if result.exit_code == 0:
        return Verdict(HEALTHY, 0, log)
    if before.status == STARTING and since_start_ns < probe.start_period:
        return Verdict(STARTING, before.failing_streak, log)
    streak = before.failing_streak + 1
    return Verdict(UNHEALTHY if streak >= probe.retries else before.status, streak, log)


def pause_ns(status: str, probe: Probe, since_start_ns: int) -> int:
    """Nanoseconds from the end of one probe to the next."""
    if status == STARTING and since_start_ns < probe.start_period:
        return probe.start_interval
    return probe.interval


def result(start_ns: int, end_ns: int, exit_code: int, output: bytes) -> HealthResult:
    """A result as it is kept, with the beginning of what the probe said."""
    text = output[:MAX_OUTPUT].decode(errors="replace")
    return HealthResult(
        start=base.format_time(start_ns),
        end=base.format_time(end_ns),
        exit_code=exit_code,
        output=text + ("..." if len(output) > MAX_OUTPUT else ""),
    )


def timed_out(start_ns: int, end_ns: int, probe: Probe, output: bytes = b"") -> HealthResult:
    """The result of a probe that took too long."""
    text = f"Health check exceeded timeout ({seconds(probe.timeout)})"
    if output:
        text += ": " + output[:MAX_OUTPUT].decode(errors="replace")
    return HealthResult(
        start=base.format_time(start_ns), end=base.format_time(end_ns), exit_code=TIMED_OUT, output=text
    )


def seconds(duration: int) -> str:
    """A duration as Docker writes it in this text."""
    return f"{duration / base.SECOND:g}s" if duration >= base.SECOND else f"{duration / base.MILLISECOND:g}ms"

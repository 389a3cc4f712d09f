"""Lets the machine cool down before each sustained measurement, so that all begin alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pneumo_edge.benchmarks.protocol import COOL_MARGIN_C, MOST_REST_SECONDS, REST_SECONDS, SustainedSettings

#: Seconds between two readings of the temperature.
_INTERVAL = 1.0


@dataclass(frozen=True)
class Cooling:
    """What is waited for before a unit.

    Args:
        settings: What was asked for.
        start_c: The temperature when the benchmark began, in degrees Celsius; None where it is not known.
        read_c: Reads the temperature.
        clock: Gives the time in seconds.
        sleep: Waits for so many seconds.
    """

    settings: SustainedSettings
    start_c: float | None
    read_c: Callable[[], float | None]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @property
    def rest_s(self) -> float | None:
        """Seconds of rest before each unit; None where a temperature is waited for."""
        if self.settings.rest_s is not None:
            return self.settings.rest_s
        return REST_SECONDS if self._target_c is None else None

    @property
    def _target_c(self) -> float | None:
        if self.start_c is None:
            return None
        return self.start_c + COOL_MARGIN_C if self.settings.cool_c is None else self.settings.cool_c

    def describe(self) -> str:
        """What is waited for before each unit, in a sentence."""
        if self.rest_s == 0:
            return "No rest between the units."
        if self.rest_s is None:
            return (
                f"Before each unit, the benchmark waits until the processor has cooled to {self._target_c:.0f} °C, for "
                f"{MOST_REST_SECONDS / 60:.0f} min at most."
            )
        why = ", because the system tells no temperature" if self.settings.rest_s is None else ""
        return f"Before each unit, the machine rests for {self.rest_s:g} s{why}."

    def wait(self, show: Callable[[str], None], tell: Callable[[str], None]) -> None:
        """Wait until the machine is cool.

        Args:
            show: Called with what is waited for, while waiting.
            tell: Called with a sentence where the machine did not get cool.
        """
        began, rest_s, target_c = self.clock(), self.rest_s, self._target_c
        while True:
            waited = self.clock() - began
            if rest_s is not None:
                if waited >= rest_s:
                    return
                show(f"resting for {rest_s - waited:.0f} s")
            else:
                now_c = self.read_c()
                if now_c is None or target_c is None:
                    # The sensor is gone.
                    rest_s = REST_SECONDS
                    continue
                if now_c <= target_c:
                    return
                if waited >= MOST_REST_SECONDS:
                    tell(
                        f"the processor has {now_c:.0f} °C after {waited / 60:.0f} min of rest, and not the "
                        f"{target_c:.0f} °C that were waited for; measuring as it is"
                    )
                    return
                show(f"cooling to {target_c:.0f} °C, now {now_c:.0f} °C")
            self.sleep(_INTERVAL if rest_s is None else min(_INTERVAL, max(0.0, rest_s - waited)))

"""Calls with hostile arguments, led by what they reach in the library: `tox -e fuzz`.

Options are libFuzzer's: `-max_total_time=600` (60 seconds unless given), `-seed=7`, and a folder
that keeps what was found worth trying again. Ends with 1 and the call when there is an answer
that is neither success nor a typed error, or a refusal that changed something.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["registry"]):
    import registry

from hostile import Stage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def main(options: list[str]) -> None:
    if not any(option.startswith("-max_total_time=") for option in options):
        options = [*options, "-max_total_time=60"]
    with registry.EmbeddedPostgres(settings={"fsync": "off"}) as server:
        registry.migrate(server.conninfo)
        stages = [Stage(server.conninfo, together=together) for together in (False, True)]
        methods = sorted(stages[0].right())

        @settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
        @given(data=st.data())
        def play(data: st.DataObject) -> None:
            stage = data.draw(st.sampled_from(stages))
            stage.play(data.draw, data.draw(st.sampled_from(methods)))

        # Arguments are made of the bytes that the fuzzer varies, by Hypothesis.
        atheris.Setup([sys.argv[0], "-max_len=8192", *options], play.hypothesis.fuzz_one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])

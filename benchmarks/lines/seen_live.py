"""How long after its voter's receipt a vote shows on an event stream, at half of the full rate."""

import asyncio
from array import array
from urllib.parse import urlsplit

from benchmarks.load.spec import percentile
from benchmarks.products import SERVICES, VoteLoad, cast_votes, services
from benchmarks.report import Goal, Line, check_equal, line
from benchmarks.run import CLIENTS, Run
from benchmarks.watching import delays_ms, watching

_LAST_S = 3.0  # for the last total to be shown


async def measure(run: Run) -> list[Line]:
    """Watch one stream during a paced load: the n-th confirmation is seen with the first total of n or more."""
    ground = run.ground
    rate = (await run.versus_plain()).ours.rate / 2
    timeline = ground.folder / "confirmations"
    survey = await ground.open_survey()
    async with services(ground, (*SERVICES, "api-streams")) as supervisor:
        port = urlsplit(supervisor.url("streams")).port or 0
        path = f"/v1/surveys/{survey.id}/results/stream"
        file = ground.folder / "arrivals"
        async with watching(port, path, 1, file, limit_s=run.seconds + 60) as watched:
            load = VoteLoad(CLIENTS, run.seconds, rate=rate, timeline=str(timeline))
            cast = await cast_votes(ground, supervisor, load, survey)
            await asyncio.sleep(_LAST_S)
    confirmed = array("d")
    confirmed.frombytes(timeline.read_bytes())
    delays, unseen = delays_ms(list(confirmed), watched.arrivals[0])
    check_equal("votes on the stream", confirmed=len(confirmed), seen=len(confirmed) - unseen)
    ordered = sorted(delays)
    detail = f"{len(watched.arrivals[0])} events; {cast.summary}"
    return [
        line("vote confirmed to seen on a stream, p50", percentile(ordered, 0.5), "ms", detail=detail),
        line("vote confirmed to seen on a stream, p99", percentile(ordered, 0.99), "ms", Goal(at_most=500)),
    ]

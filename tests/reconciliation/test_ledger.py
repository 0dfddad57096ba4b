"""Every kind of difference, planted in a real ledger, is found and named to the row."""

from tests.reconciliation_world import World, named


async def test_an_honest_survey_agrees_and_everything_was_compared(world: World) -> None:
    for place in world.places.values():
        for _ in range(3):
            await place.record()
    for complete in (False, True, False):
        report = await world.reconcile(complete=complete)
        assert report.agrees, report
        assert report.repaired == ()
        assert len(report.checked) == 2
        for checked in report.checked:
            assert (checked.batches, checked.participations, checked.ballots, checked.waiting) == (3, 6, 6, 0)
            assert [(r.region, r.participations, r.counted, r.options) for r in checked.regions] == [
                ("north", 3, 3, {"1": 3}),
                ("south", 3, 3, {"2": 3}),
            ]
    assert named(report.differences) == set()

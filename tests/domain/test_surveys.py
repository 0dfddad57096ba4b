from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.contracts.surveys import Survey, SurveyStage, Visibility
from domain.errors import DomainError, ErrorCode
from domain.survey_drafts import CatalogueEntry, Counters, OptionDraft, QuestionDraft, SurveyDraft, amended, new_entry
from domain.surveys import (
    ANSWER_TEXT_MAX,
    OPTION_TEXT_MAX,
    OPTIONS_MAX,
    QUESTIONS_MAX,
    TITLE_MAX,
    check_survey,
    definition_digest,
)

SURVEY_ID = "s_aaaaaaaaaaaaaaaa"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def options(*texts: str, **more: Any) -> tuple[OptionDraft, ...]:
    return tuple(OptionDraft(text=text, **more) for text in texts)


def question(title: str = "Who?", **more: Any) -> QuestionDraft:
    return QuestionDraft(**{"title": title, "min": 1, "max": 2, "options": options("Homer", "Ned"), **more})


def draft(*questions: QuestionDraft, title: str = "Elections", **more: Any) -> SurveyDraft:
    return SurveyDraft(title=title, questions=questions or (question(),), **more)


def entry(*questions: QuestionDraft, **more: Any) -> CatalogueEntry:
    return new_entry(SURVEY_ID, draft(*questions, **more))


def kept(found: CatalogueEntry, **more: Any) -> SurveyDraft:
    """The request that repeats a survey as it is."""
    survey = found.survey
    questions = tuple(
        QuestionDraft(
            id=q.id,
            title=q.title,
            min=q.min,
            max=q.max,
            options=tuple(OptionDraft(id=o.id, text=o.text) for o in q.options),
        )
        for q in survey.questions
    )
    return SurveyDraft(**{"title": survey.title, "questions": questions, **more})


def code_of(found: CatalogueEntry, wanted: SurveyDraft) -> ErrorCode | None:
    try:
        amended(found, wanted)
    except DomainError as error:
        return error.code
    return None


def ids(survey: Survey) -> dict[str, list[str]]:
    return {q.id: [o.id for o in q.options] for q in survey.questions}


def test_a_new_survey_numbers_questions_and_options_from_one() -> None:
    found = entry(question("a"), question("b", options=options("x", "y", "z")))
    assert ids(found.survey) == {"1": ["1", "2"], "2": ["3", "4", "5"]}
    assert found.counters == Counters(2, 5)
    assert found.survey.version == 1
    assert found.stage is SurveyStage.DRAFT


def test_update_creates_changes_and_deletes_in_one_request() -> None:
    before = entry(question("a"), question("b"))
    after = amended(
        before,
        draft(
            question("a2", id="1", options=(OptionDraft("Ned Flanders", id="2"), OptionDraft("Marge"))),
            question("c", options=options("Burns", "Bob")),
        ),
    )
    assert ids(after.survey) == {"1": ["2", "7"], "3": ["5", "6"]}
    assert after.survey.questions[0].title == "a2"
    assert after.survey.questions[0].options[0].text == "Ned Flanders"
    assert after.survey.version == 2


def test_ids_are_never_used_again_after_a_deletion() -> None:
    before = entry(question("a"), question("b"))
    without = amended(before, draft(question("a", id="1", options=(OptionDraft("Homer", id="1"), OptionDraft("new")))))
    again = amended(without, draft(question("b"), question("c")))
    assert ids(without.survey) == {"1": ["1", "5"]}
    assert ids(again.survey) == {"3": ["6", "7"], "4": ["8", "9"]}


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=8))
def test_what_stays_keeps_its_id_through_any_number_of_updates(steps: list[list[bool]]) -> None:
    found = entry(question("a"), question("b"), question("c"))
    ever: set[str] = {o.id for q in found.survey.questions for o in q.options}
    for step in steps:
        stay = [q for q, keep in zip(found.survey.questions, step, strict=False) if keep]
        wanted = [
            QuestionDraft(
                id=q.id, title=q.title, min=1, max=1, options=(OptionDraft(q.options[0].text, id=q.options[0].id),)
            )
            for q in stay
        ]
        after = amended(found, draft(*wanted, question("new", max=1, options=options("only"))))
        fresh = {o.id for q in after.survey.questions for o in q.options} - {q.options[0].id for q in stay}
        assert not fresh & ever
        ever |= fresh
        assert {q.id for q in stay} < {q.id for q in after.survey.questions}
        found = after


@pytest.mark.parametrize(
    "wanted",
    [
        draft(question(id="9")),
        draft(question(id="")),
        draft(question(id="1", options=options("x", "y", id="1"))),
        draft(question(id="1"), question(id="1")),
        draft(question(id="1", options=(OptionDraft("x", id="3"), OptionDraft("y")))),  # another question's option
        draft(question(options=(OptionDraft("x", id="1"), OptionDraft("y")))),  # a new question has no options yet
        draft(title=" "),
        draft(title="x" * (TITLE_MAX + 1)),
        draft(title="a\x00b"),
        draft(title="a\ud800b"),
        draft(title="a\nb"),
        draft(*(question() for _ in range(QUESTIONS_MAX + 1))),
        draft(question(options=())),
        draft(question(max=1, options=options(*("x" for _ in range(OPTIONS_MAX + 1))))),
        draft(question(min=-1)),
        draft(question(min=2, max=1)),
        draft(question(max=3)),
        draft(question(min=0, max=0)),
        draft(question(max=10**30)),
        draft(question(order=-1)),
        draft(question(order=10**9)),
        draft(question(text_max=ANSWER_TEXT_MAX + 1)),
        draft(question(text_max=-1)),
        draft(question(description="")),
        draft(question(options=options("x", "y" * (OPTION_TEXT_MAX + 1)))),
        draft(question(options=options("x", "y", image="http://example.com/plain.jpg"))),
        draft(question(options=options("x", "y", image="javascript:alert(1)"))),
        draft(question(options=options("x", "y", image="https://["))),
        draft(question(options=options("x", "y", image="https://example.com/" + "x" * 2048))),
        draft(regions=("a", "a")),
        draft(regions=("",)),
        draft(regions=("a b",)),
        draft(minimum_age=17),
        draft(minimum_step=0),
        draft(start_at=NOW, finish_at=NOW),
        draft(*(question(text_max=ANSWER_TEXT_MAX) for _ in range(2))),  # the padded ballot would not fit
    ],
)
def test_what_breaks_a_rule_is_refused(wanted: SurveyDraft) -> None:
    assert code_of(entry(), wanted) is ErrorCode.SURVEY_INVALID


def test_the_largest_survey_that_the_limits_allow_is_taken() -> None:
    many = options(*(f"option {n}" for n in range(OPTIONS_MAX)))
    found = entry(question(min=0, max=OPTIONS_MAX, options=many))
    assert len(found.survey.questions[0].options) == OPTIONS_MAX


def test_a_survey_too_large_to_travel_is_refused() -> None:
    large = options(*("x" * OPTION_TEXT_MAX for _ in range(OPTIONS_MAX)))
    with pytest.raises(DomainError, match="bytes"):
        entry(*(question(max=1, options=large) for _ in range(3)))


def test_a_question_may_ask_for_text_alone() -> None:
    assert entry(question(min=0, max=0, options=(), text_max=100)).survey.questions[0].text_max == 100


def test_properties_left_out_keep_their_value_and_new_ones_get_defaults() -> None:
    before = entry(
        question(description="why", text_max=9),
        regions=("UK", "FR"),
        minimum_age=18,
        roll_required=True,
        visibility=Visibility.STAFF,
        minimum_step=5,
        finish_at=NOW,
    )
    after = amended(before, kept(before, title="Renamed"))
    assert after.survey == before.survey.model_copy(update={"title": "Renamed", "version": 2})
    cleared = amended(before, kept(before, regions=(), finish_at=None))
    assert (cleared.survey.regions, cleared.survey.finish_at) == ((), None)


def test_questions_and_options_stand_in_their_order() -> None:
    found = entry(
        question("b", order=2), question("a", order=1, options=(OptionDraft("y", order=2), OptionDraft("x", order=1)))
    )
    assert [q.title for q in found.survey.questions] == ["a", "b"]
    assert [o.text for o in found.survey.questions[0].options] == ["x", "y"]


def published(found: CatalogueEntry) -> CatalogueEntry:
    return replace(found, stage=SurveyStage.PUBLISHED, survey=found.survey.model_copy(update={"start_at": NOW}))


def test_texts_of_a_published_survey_can_be_corrected() -> None:
    before = published(entry())
    wanted = draft(
        question(
            "Who, really?",
            id="1",
            options=(OptionDraft("Homer Simpson", id="1"), OptionDraft("Ned", id="2", image="https://e.com/n")),
        ),
        title="Elections!",
    )
    after = amended(before, wanted)
    assert after.survey.title == "Elections!"
    assert ids(after.survey) == ids(before.survey)
    assert after.survey.start_at == NOW


@pytest.mark.parametrize(
    "change",
    [
        {
            "questions": (
                question(
                    id="1", options=(OptionDraft("Homer", id="1"), OptionDraft("Ned", id="2"), OptionDraft("new"))
                ),
            )
        },
        {"questions": (question(id="1", max=1, options=(OptionDraft("Homer", id="1"),)),)},
        {"questions": (question(id="1", min=0, options=(OptionDraft("Homer", id="1"), OptionDraft("Ned", id="2"))),)},
        {"regions": ("UK",)},
        {"minimum_age": 18},
        {"roll_required": True},
        {"visibility": Visibility.STAFF},
        {"minimum_step": 2},
        {"start_at": NOW - timedelta(days=1)},
        {"finish_at": NOW + timedelta(days=1)},
    ],
)
def test_nothing_else_of_a_published_survey_changes(change: dict[str, Any]) -> None:
    before = published(entry())
    assert code_of(before, kept(before, **change)) is ErrorCode.SURVEY_FROZEN


@pytest.mark.parametrize("stage", [SurveyStage.PUBLISHING, SurveyStage.FINISHED])
def test_a_survey_on_its_way_or_finished_does_not_change(stage: SurveyStage) -> None:
    before = replace(entry(), stage=stage)
    assert code_of(before, kept(before)) is ErrorCode.SURVEY_FROZEN


def test_a_bad_text_of_a_correction_is_invalid_not_frozen() -> None:
    before = published(entry())
    assert code_of(before, kept(before, title="")) is ErrorCode.SURVEY_INVALID


def test_digest_names_the_definition() -> None:
    survey = entry().survey
    check_survey(survey)
    assert definition_digest(survey) == definition_digest(survey.model_copy())
    assert definition_digest(survey) != definition_digest(survey.model_copy(update={"title": "other"}))
    assert len(definition_digest(survey)) == 32

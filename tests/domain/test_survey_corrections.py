"""No correction makes an option say what another one said, and each stays to be read."""

import pytest

from domain.contracts.surveys import Option, Question, Survey
from domain.errors import DomainError, ErrorCode
from domain.survey_corrections import CORRECTED_MAX, ReplacedText, TextField, check_replacements, replaced_texts

ONE = Question(
    id="1",
    title="Shall we?",
    min=1,
    max=1,
    order=0,
    options=(Option(id="1", text="Yes"), Option(id="2", text="No", image="https://e.com/no"), Option(id="3", text="…")),
)
TWO = Question(id="2", title="And then?", min=1, max=1, order=1, options=(Option(id="4", text="Never"),))
SURVEY = Survey(id="s_1", title="Lunch", questions=(ONE, TWO))


def saying(survey: Survey = SURVEY, title: str = "", /, **texts: str) -> Survey:
    """Return the survey with options, by `o1`, that say something else."""

    def option(old: Option) -> Option:
        return old.model_copy(update={"text": texts.get(f"o{old.id}", old.text)})

    questions = tuple(
        question.model_copy(update={"options": tuple(map(option, question.options))}) for question in survey.questions
    )
    return survey.model_copy(update={"title": title or survey.title, "questions": questions})


def told(before: Survey, after: Survey, earlier: tuple[ReplacedText, ...] = ()) -> str:
    """Return "" for a correction that is made, or the option that the refusal names."""
    try:
        check_replacements(before, earlier, replaced_texts(before, after))
    except DomainError as error:
        return error.detail.split(":")[0] if error.code is ErrorCode.SURVEY_FROZEN else str(error.code)
    return ""


def test_what_is_replaced_names_its_place() -> None:
    first = ONE.model_copy(update={"title": "Shall we go?", "description": "To lunch.", "options": ONE.options})
    after = saying(SURVEY.model_copy(update={"questions": (first, TWO)}), "Luncheon", o4="Never!")
    assert replaced_texts(SURVEY, after) == (
        ReplacedText("", "", TextField.TITLE, "Lunch", "Luncheon"),
        ReplacedText("1", "", TextField.TITLE, "Shall we?", "Shall we go?"),
        ReplacedText("1", "", TextField.DESCRIPTION, "", "To lunch."),
        ReplacedText("2", "4", TextField.TEXT, "Never", "Never!"),
    )
    assert replaced_texts(SURVEY, SURVEY) == ()


@pytest.mark.parametrize("texts", [{"o1": "Yes, please"}, {"o1": "yes!", "o3": "?"}, {"o4": "No"}, {"o1": "Nope"}])
def test_a_typo_is_corrected(texts: dict[str, str]) -> None:
    assert told(SURVEY, saying(**texts)) == ""


@pytest.mark.parametrize("text", ["No", "no", " N o. ", "\uff2e\uff4f", "NO!"])
def test_no_option_gets_to_say_what_another_one_says(text: str) -> None:
    assert told(SURVEY, saying(o1=text)) == "option 1"
    assert told(SURVEY, saying(o1=text, o2="Yes")) == "option 1"
    assert told(SURVEY, saying(o3="\u2026", o1="\u2026")) == "option 1"


def test_nor_what_another_one_said_however_many_steps_it_takes() -> None:
    step, earlier = saying(o2="Certainly not"), tuple[ReplacedText, ...]()
    assert told(SURVEY, step) == ""
    earlier += replaced_texts(SURVEY, step)
    assert told(step, saying(step, o1="No"), earlier) == "option 1"
    further = saying(step, o2="By no means")
    earlier += replaced_texts(step, further)
    assert told(further, saying(further, o1="certainly not"), earlier) == "option 1"
    assert told(further, saying(further, o2="No"), earlier) == ""  # its own, again


def test_nor_shows_its_image() -> None:
    first = ONE.options[0].model_copy(update={"image": "https://e.com/no"})
    question = ONE.model_copy(update={"options": (first, *ONE.options[1:])})
    assert told(SURVEY, SURVEY.model_copy(update={"questions": (question, TWO)})) == "option 1"
    bare = ONE.options[1].model_copy(update={"image": None})
    question = ONE.model_copy(update={"options": (ONE.options[0], bare, ONE.options[2])})
    assert told(SURVEY, SURVEY.model_copy(update={"questions": (question, TWO)})) == ""


def test_corrections_of_a_survey_are_bounded() -> None:
    earlier = (ReplacedText("", "", TextField.TITLE, "a", "b"),) * CORRECTED_MAX
    assert told(SURVEY, saying(SURVEY, "Luncheon"), earlier[1:]) == ""
    assert told(SURVEY, saying(SURVEY, "Luncheon"), earlier).startswith("no more")

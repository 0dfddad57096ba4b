"""Step-by-step answers: one option or text a call, until the session is finished and becomes a ballot."""

from dataclasses import dataclass, replace

from domain.ballots import Answer, BallotRules
from domain.errors import DomainError, ErrorCode


@dataclass(frozen=True, slots=True)
class Choice:
    """One call's answer; its number in the session, from 1, is its id."""

    question: str
    option: str | None
    text: str


def add_choice(rules: BallotRules, choices: tuple[Choice, ...], choice: Choice) -> tuple[tuple[Choice, ...], int]:
    """Return the session's choices with one more, and the number of the call's own.

    The same choice again is the same choice. In a question that allows one option a new one replaces the old;
    elsewhere `too_many_options` is raised beyond `max`. A question has one text: the one that came last. `min` is
    checked when the session is finished.
    """
    rules.check_option(choice.question, choice.option, choice.text)
    if choice.text:
        choices = tuple(
            replace(known, text="") if known.question == choice.question and known.text else known for known in choices
        )
    same_question = [number for number, known in enumerate(choices) if known.question == choice.question]
    for number in same_question:
        if choices[number].option == choice.option:
            return (*choices[:number], choice, *choices[number + 1 :]), number + 1
    if choice.option is not None:
        chosen = [number for number in same_question if choices[number].option is not None]
        maximum = rules.maximum(choice.question)
        if chosen and maximum == 1:
            number = chosen[0]
            return (*choices[:number], choice, *choices[number + 1 :]), number + 1
        if len(chosen) >= maximum:
            raise DomainError(ErrorCode.TOO_MANY_OPTIONS, f"question {choice.question} allows {maximum} at most")
    return (*choices, choice), len(choices) + 1


def ballot_of(choices: tuple[Choice, ...]) -> tuple[Answer, ...]:
    """Return a session's choices as the answers of a whole ballot.

    A session that the release before began may have several texts of a question: the last of them stands.
    """
    options: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    for choice in choices:
        chosen = options.setdefault(choice.question, [])
        if choice.option is not None:
            chosen.append(choice.option)
        if choice.text:
            texts[choice.question] = choice.text
    return tuple(Answer(question, tuple(chosen), texts.get(question, "")) for question, chosen in options.items())

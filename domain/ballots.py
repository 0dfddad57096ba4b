"""What makes a ballot valid, and how it is packed so that no length tells two choices apart.

`BallotRules` is the one rule for answers: the API calls it for a good error, recording calls it for truth.
"""

from collections.abc import Sequence

import msgspec

from domain.contracts.surveys import Question, Survey
from domain.errors import DomainError, ErrorCode

PACKED_BYTES_MAX = 4000  # the sealed form, with key id, nonce and tag, stays under 4 KiB
_BLOCK = 64
_LENGTH_BYTES = 2
_UTF8_BYTES_MAX = 4  # per character


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The options chosen in one question, and its text where the question takes one."""

    question: str
    options: tuple[str, ...] = ()
    text: str = ""


class OpenedBallot(msgspec.Struct, frozen=True, array_like=True):
    """A ballot's content: the region it counts for and (question, options, text) in the survey's order."""

    region: str
    answers: tuple[tuple[str, tuple[str, ...], str], ...]


_DECODER = msgspec.msgpack.Decoder(OpenedBallot)
_ENCODER = msgspec.msgpack.Encoder()


class _QuestionRule:
    __slots__ = ("max", "min", "options", "order", "question_id", "text_max")

    def __init__(self, order: int, question: Question) -> None:
        self.order = order
        self.question_id = question.id
        self.min = question.min
        self.max = question.max
        self.options = {option.id: place for place, option in enumerate(question.options)}
        self.text_max = question.text_max

    def check(self, answer: Answer) -> None:
        chosen = answer.options
        if len(chosen) < self.min:
            raise DomainError(ErrorCode.TOO_FEW_OPTIONS, f"question {self.question_id} asks for {self.min} or more")
        if len(chosen) > self.max:
            raise DomainError(ErrorCode.TOO_MANY_OPTIONS, f"question {self.question_id} allows {self.max} at most")
        for option in chosen:
            if option not in self.options:
                raise DomainError(ErrorCode.OPTION_UNKNOWN, f"question {self.question_id} has no such option")
        if len(chosen) > 1 and len(set(chosen)) != len(chosen):
            raise DomainError(ErrorCode.OPTION_REPEATED, f"question {self.question_id} names an option twice")
        if answer.text:
            self._check_text(answer.text)

    def _check_text(self, text: str) -> None:
        if not self.text_max:
            raise DomainError(ErrorCode.TEXT_NOT_ALLOWED, f"question {self.question_id}")
        if len(text) > self.text_max:
            raise DomainError(ErrorCode.TEXT_TOO_LONG, f"question {self.question_id} allows {self.text_max} characters")
        if not text.isprintable() or any("\ud800" <= character <= "\udfff" for character in text):
            raise DomainError(ErrorCode.MALFORMED_REQUEST, f"question {self.question_id} takes printable text only")


class BallotRules:
    """The rules of one survey, ready for many ballots."""

    __slots__ = ("_questions", "_regions", "_required", "packed_bytes", "survey_id")

    def __init__(self, survey: Survey) -> None:
        ordered = sorted(survey.questions, key=lambda question: (question.order, question.id))
        self.survey_id = survey.id
        self._questions = {question.id: _QuestionRule(order, question) for order, question in enumerate(ordered)}
        self._required = tuple(rule for rule in self._questions.values() if rule.min > 0)
        self._regions = frozenset(survey.regions)
        self.packed_bytes = packed_bytes(survey)

    def check(self, answers: Sequence[Answer]) -> None:
        """Accept a whole ballot or raise DomainError with the code of the first rule that it breaks.

        A question with `min` 0 may be left out.
        """
        seen: set[str] = set()
        for answer in answers:
            rule = self._questions.get(answer.question)
            if rule is None:
                raise DomainError(ErrorCode.QUESTION_UNKNOWN, "the survey has no such question")
            if answer.question in seen:
                raise DomainError(ErrorCode.QUESTION_REPEATED, f"question {answer.question}")
            seen.add(answer.question)
            rule.check(answer)
        for rule in self._required:
            if rule.question_id not in seen:
                raise DomainError(ErrorCode.TOO_FEW_OPTIONS, f"question {rule.question_id} is not answered")

    def is_for(self, region: str) -> bool:
        """Tell whether the survey is for a region; one that names none is for all."""
        return not self._regions or region in self._regions

    def check_option(self, question: str, option: str | None, text: str) -> None:
        """Accept one step of a session: the question is the survey's, the option the question's, the text allowed."""
        rule = self._questions.get(question)
        if rule is None:
            raise DomainError(ErrorCode.QUESTION_UNKNOWN, "the survey has no such question")
        if option is not None and option not in rule.options:
            raise DomainError(ErrorCode.OPTION_UNKNOWN, f"question {question} has no such option")
        if text:
            rule._check_text(text)  # noqa: SLF001 - the same module

    def maximum(self, question: str) -> int:
        """Return the most options that a known question allows."""
        return self._questions[question].max

    def pack(self, region: str, answers: Sequence[Answer]) -> bytes:
        """Return valid answers as `packed_bytes` bytes, the same number for every ballot of the survey.

        Questions and options stand in the survey's order, so the order of clicks is not kept.
        """
        rules = self._questions
        rows = [
            (
                rules[answer.question].order,
                answer.question,
                tuple(sorted(answer.options, key=rules[answer.question].options.__getitem__)),
                answer.text,
            )
            for answer in answers
        ]
        rows.sort()
        content = _ENCODER.encode((region, [row[1:] for row in rows]))
        return (len(content).to_bytes(_LENGTH_BYTES, "big") + content).ljust(self.packed_bytes, b"\0")


def unpack(packed: bytes) -> OpenedBallot:
    """Return the content of a packed ballot. Raises ValueError where it is not one."""
    length = int.from_bytes(packed[:_LENGTH_BYTES], "big")
    try:
        return _DECODER.decode(packed[_LENGTH_BYTES : _LENGTH_BYTES + length])
    except msgspec.DecodeError as error:
        raise ValueError("not a packed ballot") from error


def answers_of(ballot: OpenedBallot) -> tuple[Answer, ...]:
    """Return an opened ballot's answers in the form that the rules check."""
    return tuple(Answer(question, options, text) for question, options, text in ballot.answers)


def packed_bytes(survey: Survey) -> int:
    """Return how many bytes every packed ballot of this survey takes: room for its longest one, in blocks of 64."""
    longest_region = max((len(region.encode()) for region in survey.regions), default=_REGION_BYTES_MAX)
    size = _LENGTH_BYTES + 1 + 3 + longest_region + 5
    for question in survey.questions:
        lengths = sorted((3 + len(option.id) for option in question.options), reverse=True)[: question.max]
        size += 1 + 3 + len(question.id) + 5 + sum(lengths) + 5 + question.text_max * _UTF8_BYTES_MAX
    return -(-size // _BLOCK) * _BLOCK


_REGION_BYTES_MAX = 64  # of a region's name, where the survey names none itself

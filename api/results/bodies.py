"""The body of the results call, for the OpenAPI document; it is written by `domain.results`."""

from datetime import datetime

from pydantic import Field

from api.http.models import ApiModel


class ResultSurvey(ApiModel):
    """Which survey."""

    id: str
    title: str


class ResultOption(ApiModel):
    """An option and its votes; options nobody chose are listed too."""

    id: str
    text: str
    image: str | None
    order: int
    votes: int = Field(ge=0)


class ResultQuestion(ApiModel):
    """A question and its options, in order."""

    id: str
    title: str
    order: int
    options: list[ResultOption]


class ResultsBody(ApiModel):
    """Totals over all cells."""

    survey: ResultSurvey
    total_responses: int = Field(ge=0, description="Ballots; narrowed by `region`, not by `option`.")
    questions: list[ResultQuestion]
    as_of: datetime | None = Field(description="Everything announced up to this instant is counted.")
    missing_cells: list[str] = Field(
        description="Cells that cannot be read now: what was last seen of them stands still, or is not in the totals."
    )
    certificate_id: str | None = Field(
        default=None, description="Of the certificate that states these totals; it is there once there is one."
    )

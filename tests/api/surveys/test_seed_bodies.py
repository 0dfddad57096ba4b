"""The requests and answers that clients were promised, to the letter."""

import json
import re
from typing import Any

import httpx

CREATE = """
{
  "title": "Elections Survey",
  "questions": [
    {
      "title": "Who would you vote for president?",
      "min": 1,
      "max": 2,
      "order": 0,
      "options": [
        {"text": "Homer Simpsom", "image": "https://example.com/homer.jpg", "order": 0},
        {"text": "Ned Flanders", "image": "https://example.com/ned.jpg", "order": 1}
      ]
    }
  ]
}
"""
CREATED = """
{
  "id": "1",
  "title": "Elections Survey",
  "startDate": null,
  "finishDate": null,
  "questions": [
    {
      "id": "1",
      "title": "Who would you vote for president?",
      "min": 1,
      "max": 2,
      "order": 0,
      "options": [
        {"id": "1", "text": "Homer Simpsom", "image": "https://example.com/homer.jpg", "order": 0},
        {"id": "2", "text": "Ned Flanders", "image": "https://example.com/ned.jpg", "order": 1}
      ]
    }
  ]
}
"""
UPDATE = """
{
  "title": "Elections Survey For President",
  "questions": [
    {
      "id": "1",
      "title": "Who would you vote for president?",
      "min": 1,
      "max": 2,
      "order": 0,
      "options": [
        {"id": "1", "text": "Homer Simpson", "image": "https://example.com/homer.jpg", "order": 0},
        {"id": "2", "text": "Ned Flanders", "image": "https://example.com/ned.jpg", "order": 1},
        {"text": "Marge Simpson", "image": "https://example.com/marge.jpg", "order": 2}
      ]
    },
    {
      "title": "Who would you vote for minister?",
      "min": 1,
      "max": 1,
      "order": 1,
      "options": [
        {"text": "Montgomery Burns", "image": "https://example.com/burns.jpg", "order": 0},
        {"text": "Sideshow Bob", "image": "https://example.com/bob.jpg", "order": 1}
      ]
    }
  ]
}
"""
UPDATED = """
{
  "id": "1",
  "title": "Elections Survey For President",
  "startDate": null,
  "finishDate": null,
  "questions": [
    {
      "id": "1",
      "title": "Who would you vote for president?",
      "min": 1,
      "max": 2,
      "order": 0,
      "options": [
        {"id": "1", "text": "Homer Simpson", "image": "https://example.com/homer.jpg", "order": 0},
        {"id": "2", "text": "Ned Flanders", "image": "https://example.com/ned.jpg", "order": 1},
        {"id": "5", "text": "Marge Simpson", "image": "https://example.com/marge.jpg", "order": 2}
      ]
    },
    {
      "id": "2",
      "title": "Who would you vote for minister?",
      "min": 1,
      "max": 1,
      "order": 1,
      "options": [
        {"id": "3", "text": "Montgomery Burns", "image": "https://example.com/burns.jpg", "order": 0},
        {"id": "4", "text": "Sideshow Bob", "image": "https://example.com/bob.jpg", "order": 1}
      ]
    }
  ]
}
"""
UTC_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z")


async def put(client: httpx.AsyncClient, path: str, body: str) -> httpx.Response:
    return await client.put(path, content=body, headers={"content-type": "application/json"})


def promised(text: str, survey_id: str, **dates: Any) -> dict[str, Any]:
    return {**json.loads(text), "id": survey_id, **dates}


async def test_the_life_of_a_survey(admin: httpx.AsyncClient, anyone: httpx.AsyncClient) -> None:
    answer = await admin.post("/v1/internal/surveys", content=CREATE, headers={"content-type": "application/json"})
    assert answer.status_code == 201, answer.text
    survey_id = answer.json()["id"]
    path = f"/v1/internal/surveys/{survey_id}"
    assert answer.json() == promised(CREATED, survey_id)
    assert list(answer.json()) == list(json.loads(CREATED))
    assert answer.headers["location"] == path

    answer = await put(admin, path, UPDATE)
    assert answer.status_code == 200, answer.text
    assert answer.json() == promised(UPDATED, survey_id)
    assert (await anyone.get(f"/v1/surveys/{survey_id}")).status_code == 404

    answer = await admin.put(f"{path}/publish")
    assert answer.status_code == 200, answer.text
    start = answer.json()["startDate"]
    assert UTC_TIME.fullmatch(start)
    short = {"id": survey_id, "title": "Elections Survey For President", "startDate": start}
    assert answer.json() == {**short, "finishDate": None}

    answer = await anyone.get(f"/v1/surveys/{survey_id}")
    assert answer.status_code == 200
    assert answer.json() == promised(UPDATED, survey_id, startDate=start)

    answer = await admin.put(f"{path}/finish")
    assert answer.status_code == 200, answer.text
    finish = answer.json()["finishDate"]
    assert UTC_TIME.fullmatch(finish)
    assert answer.json() == {**short, "finishDate": finish}
    assert finish > start
    answer = await anyone.get(f"/v1/surveys/{survey_id}")
    assert answer.json() == promised(UPDATED, survey_id, startDate=start, finishDate=finish)


async def test_a_draft_is_deleted_without_a_word(admin: httpx.AsyncClient) -> None:
    answer = await admin.post("/v1/internal/surveys", json=json.loads(CREATE))
    path = answer.headers["location"]
    answer = await admin.delete(path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await admin.get(path)).json()["code"] == "survey_not_found"
    assert (await admin.delete(path)).status_code == 404

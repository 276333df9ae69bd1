"""Each event of a file has words, whoever did it."""

import ast
from typing import Any

import pytest
from django.conf import settings
from django.utils.functional import Promise

from audiotricks.plug import declared
from uploads.lifecycle.sentences import SENTENCES, describe, why_it_failed
from uploads.models import UploadEvent

APPS = ("audiotricks", "quotas", "uploads")
PLACE_OF_ACTION = {"record_event": 1, "move": 2}


def actions_in_code() -> dict[str, str]:
    """Every action that a call of ``record_event`` or ``move`` names, with a file that does."""
    found = {}
    for path in (path for app in APPS for path in (settings.BASE_DIR / app).rglob("*.py")):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            if name in PLACE_OF_ACTION and len(call.args) > PLACE_OF_ACTION[name]:
                for action in texts(call.args[PLACE_OF_ACTION[name]]):
                    found[action] = str(path.relative_to(settings.BASE_DIR))
    return found


def texts(node: ast.expr) -> list[str]:
    return [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def event(action: str, **fields: Any) -> UploadEvent:
    return UploadEvent(action=action, **fields)


def test_every_action_that_the_code_writes_has_words() -> None:
    actions = actions_in_code()
    assert {"uploaded", "deleted", "held", "released", "step_done"} <= actions.keys()
    assert {action: file for action, file in actions.items() if action not in SENTENCES} == {}


@pytest.mark.parametrize("action", sorted(SENTENCES))
def test_an_event_is_one_sentence_with_and_without_somebody_who_did_it(action: str, django_user_model: Any) -> None:
    somebody = django_user_model(username="ada")
    by_itself, by_ada = describe(event(action)), describe(event(action, actor=somebody))
    for sentence in (by_itself, by_ada):
        assert sentence.endswith(".") and "%(" not in sentence and "_" not in sentence
        assert sentence[0] == "a" or sentence[0].isupper()
    if not callable(SENTENCES[action]):
        assert by_ada.startswith("ada ") and "ada" not in by_itself


def test_a_reason_is_told_behind_the_sentence() -> None:
    words = describe(event("taken_back", reason="The worker was lost."))
    assert words == "The file was put back in the queue, to be tried again. Reason: The worker was lost."


def test_a_failure_is_told_by_the_title_of_its_code() -> None:
    words = describe(event("failed", details={"error_code": "no_audio_stream"}))
    assert words == "Processing failed: There is no audio in this file."
    assert why_it_failed("of_another_age") == "Something unexpected went wrong"


def test_names_in_a_renaming_are_left_as_they_are() -> None:
    words = describe(event("renamed", details={"from": "100%(actor)s.mp3", "to": "%s%d.mp3"}))
    assert words == "The file was renamed from “100%(actor)s.mp3” to “%s%d.mp3”."


def test_a_duplicate_is_told_where_it_was_found() -> None:
    assert "stored only once" in describe(event("processing", details={"duplicate_of": "x"}))
    assert "stored only once" not in describe(event("processing"))


def test_an_action_or_a_step_of_another_age_is_told_by_its_name() -> None:
    assert describe(event("sealed_up")) == "sealed up"
    assert describe(event("step_done", details={"step": "chunks.cut_it"})) == "Step done: cut it."


def test_words_are_made_when_they_are_read() -> None:
    """Else they stayed in the language of whoever came first."""
    sentences = [sentence for words in SENTENCES.values() if not callable(words) for sentence in words]
    steps = [step.done for _, step in declared(lambda app: app.processing_steps.items())]
    assert all(isinstance(sentence, Promise) for sentence in [*sentences, *steps])

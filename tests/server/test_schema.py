"""The OpenAPI description is right: requests generated from it get a documented answer, and never a 5xx."""

import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from server.serving import PICTURES, picture

TOKEN = "correct-horse-battery-staple"
EXAMPLES = 5  # of each route and kind
BOUNDS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)

load_all_checks()
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

for kind in ("png", "jpeg", "webp", "gif", "bmp", "tiff"):
    files = st.sampled_from([picture(1, kind.upper()), picture(2, kind.upper())]) | st.binary(max_size=200)
    schemathesis.openapi.media_type(f"image/{kind}", files)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_made_up_request_gets_a_documented_answer(
    serve: Callable[..., TestClient], tmp_path: Path, mode: GenerationMode
) -> None:
    client = serve(token=TOKEN, uploads=tmp_path / "uploads")  # with a token any host name is allowed
    headers = {"Authorization": f"Bearer {TOKEN}"}
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app, headers=headers)
    answers: Counter[int] = Counter()
    for found in schema.get_all_operations():
        operation = found.ok()

        def check(case: schemathesis.Case) -> None:
            if answers.total() % 4:  # generated names and ids alone would give hardly anything but "not found"
                known = {"gallery": "my-pets", "item_id": str(1 + answers.total() % PICTURES)}
                case.path_parameters = {name: known[name] for name in case.path_parameters or {}}
            response = case.call(headers=headers)
            case.validate_response(response, checks=CHECKS)
            answers[response.status_code] += 1

        drawn = given(case=operation.as_strategy(generation_mode=mode))(check)
        with contextlib.suppress(Unsatisfiable):  # a route without fields has no wrong requests
            BOUNDS(drawn)()
    if mode == GenerationMode.POSITIVE:
        assert answers[200] > 5 * EXAMPLES
        assert answers[201] > 0, "no upload was taken"
        assert answers[204] > 0, "no picture was deleted"
    else:
        assert answers[422] > 2 * EXAMPLES

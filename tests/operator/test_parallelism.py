"""What becomes of `spec.parallelism`."""

from headrace_api.resources.deployment import LLMDeployment
from headrace_api.resources.kv import KvSpec
from headrace_api.resources.pods import Workers
from headrace_operator.objects.resources import GPU, requirements
from headrace_operator.plan import plan


def deployment(**spec: object) -> LLMDeployment:
    return LLMDeployment.model_validate(
        {
            "apiVersion": "serving.headrace.dev/v1alpha1",
            "kind": "LLMDeployment",
            "metadata": {"name": "chat"},
            "spec": {"model": {"uri": "file:///models/m"}, **spec},
        }
    )


def test_every_worker_of_a_deployment_is_told_its_number_of_ranks() -> None:
    pools = plan([deployment(parallelism={"tensor": 4})], processors=8).pools
    assert {pool.role: pool.template.tensor_parallel for pool in pools} == {"prefill": 4, "decode": 4}


def test_another_number_of_ranks_is_another_revision_and_still_pairs() -> None:
    one, same, two = (
        plan([deployment(**spec)], processors=8).pools[0]
        for spec in ({}, {"parallelism": {"tensor": 1}}, {"parallelism": {"tensor": 2}})
    )
    assert one.revision == same.revision != two.revision
    assert one.pairing == two.pairing


def test_a_worker_on_gpus_gets_one_for_each_rank() -> None:
    assert requirements(Workers(), KvSpec(), "nvidia", 4)["limits"][GPU] == "4"
    assert requirements(Workers(), KvSpec(), "nvidia")["limits"][GPU] == "1"

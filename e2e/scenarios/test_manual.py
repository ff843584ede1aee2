"""The manual, word by word: the commands of a page are run as they stand, on a cluster that knows nothing of ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from e2e.scenarios import page
from e2e.scenarios.inventory import inventory, wait_left

from headrace_worker.fetch import cache_root

if TYPE_CHECKING:
    from e2e.scenarios.world import World

ROOT: Final = Path(__file__).parents[2]


@pytest.mark.usefixtures("bare")
def test_the_install_page_leads_to_an_answer_and_back_to_a_clean_cluster(world: World, tmp_path: Path) -> None:
    world.cluster.refill_volumes(cache_root(), ("pypi", "resolved"))
    before = inventory(world.kubectl)
    blocks = page.commands((ROOT / "docs" / "install.md").read_text())
    for name, program in (("kubectl", world.kubectl.program), ("helm", world.helm.program)):
        (tmp_path / name).symlink_to(program)
    path = f"{tmp_path}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    environment = {**world.helm.environment, "PATH": path, "KUBECONFIG": str(world.kubectl.kubeconfig)}

    told = page.run(blocks, folder=ROOT, environment={**environment, "REGISTRY": "localhost"}, timeout_s=900)

    assert "data: [DONE]" in told
    wait_left(world.kubectl, before, set(), timeout_s=60)

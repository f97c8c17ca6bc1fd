"""One thread for every process of the tests, and the shapes of signatures checked when asked to.

Toys are computed faster by one thread than shared among several, above all beside another process of the suite: threads
that wait for each other burn the processor that they wait for. The processes that tests start inherit it.

Nor does PyTorch remember here what operators return for which shapes: that pays where many blocks are alike, and the
toys that are exported and compiled have one or two.

Shapes are checked by ``FORMWRIGHT_CHECK_SHAPES=1 pytest``, not by default, because code that checks shapes can neither
be compiled nor exported; ``test_shapes.py`` of the conformance suite runs the part and model checks once more in a
process that does.

The default suite leaves out further cases of what it tests once already (:data:`SAMPLED`, :data:`FURTHER`), where each
takes seconds: ``pytest --thorough`` (``make test-all``) runs all, and so does whoever names a test or uses ``-k``.
"""

from __future__ import annotations

import importlib.util
import os
import pkgutil
import re
from collections import Counter

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before PyTorch is imported, which reads both once
os.environ["TORCH_FAKE_TENSOR_DISPATCH_CACHE"] = "0"

if os.environ.get("FORMWRIGHT_CHECK_SHAPES") == "1":
    import jaxtyping

    found = importlib.util.find_spec("formwright.nn")
    assert found is not None
    modules = {module.name for module in pkgutil.iter_modules(found.submodule_search_locations)}
    # Specifications are data without shapes; what they are decoded with has types that beartype does not know.
    checked = [f"formwright.nn.{name}" for name in sorted(modules - {"specification"})]
    jaxtyping.install_import_hook(checked, "beartype.beartype")

#: Tests over everything registered that compile or export each case: one in so many is in the default suite.
SAMPLED = {
    "conformance/test_traced.py::test_compiled_part_agrees": 5,
    "conformance/test_traced.py::test_exported_part_agrees_for_any_batch": 3,
    "conformance/test_traced.py::test_exported_model_agrees_for_any_batch_and_length": 4,
    "conformance/test_traced.py::test_exported_model_agrees_for_any_batch": 3,
    "conformance/test_traced.py::test_compiled_model_agrees": 4,
    "conformance/test_networks.py::test_onnx_agrees_at_any_size": 4,
    "conformance/test_networks.py::test_exported_network_agrees_at_any_size": 3,
    "conformance/test_networks.py::test_compiled_network_agrees": 4,
    "conformance/test_quantised.py::test_networks_of_other_kinds_are_quantised_reload_and_export": 4,
    "conformance/test_packed_models.py::test_a_model_that_is_compiled_takes_them": 3,
    "deployment/test_qdq.py::test_weights_of_8_and_4_bits_are_stored_as_such": 4,
    "deployment/test_qdq.py::test_activations_stand_between_quantize_and_dequantize": 3,
    "deployment/test_qdq.py::test_every_form_of_8_and_4_bits": 3,
    "compression/quantization/test_post_training.py::test_ranges_of_what_comes_in_are_those_of_the_calibration": 4,
    "compression/quantization/test_post_training.py::test_fewer_bits_cost_more_and_finer_scales_less": 3,
    "compression/quantization/test_post_training.py::test_they_learn_are_cut_and_reload_again": 2,
    "models/test_u_net.py::test_one_onnx_file_takes_any_height_and_width": 2,
}
#: Others of which a sibling says most, by a part of their names.
FURTHER = re.compile(
    r"test_competitors.*goes_on\[final\]|test_an_average_is_shipped_only_beyond|test_many_samples_keep_the_test_part"
    r"|test_workers.*next_best\[finish\]|test_a_worker_that_cannot_start_again|test_what_is_lost_while_shrinking"
    r"|test_weights.*(asked_at_every_batch|goes_on_with_the_same_answers|learns_on_or_gets_adapters)"
    r"|test_picture_weights.*(misses_the_budget_teaches|goes_on_with_the_same_numbers)"
    r"|test_denoiser.*averaged_weights\[flow\]|test_mamba_below_is_exported|test_qdq.*(simulated|permuted)"
    r"|test_in_every_block_of_a_vision_transformer|test_several_checkpoints_race|test_it_learns_to_find_shapes"
    r"|test_a_small_t5_learns|test_quantised.*models_are_traced\[True\]|test_a_run_that_dies_again_and_again"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="run the further cases that the default suite leaves out")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("thorough") or config.getoption("keyword") or any("::" in name for name in config.args):
        return
    seen: Counter[str] = Counter()
    chosen, further = [], []
    for item in items:
        name = item.nodeid.partition("[")[0].partition("tests/")[2]
        place, seen[name] = seen[name], seen[name] + 1
        (further if place % SAMPLED.get(name, 1) or FURTHER.search(item.nodeid) else chosen).append(item)
    items[:] = chosen
    config.hook.pytest_deselected(items=further)

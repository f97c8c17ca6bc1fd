"""One thread for every process of the tests, and the shapes of signatures checked when asked to.

Toys are computed faster by one thread than shared among several, above all beside another process of the suite: threads
that wait for each other burn the processor that they wait for. The processes that tests start inherit it.

Nor does PyTorch remember here what operators return for which shapes: that pays where many blocks are alike, and the
toys that are exported and compiled have one or two.

Shapes are checked by ``FORMWRIGHT_CHECK_SHAPES=1 pytest``, not by default, because code that checks shapes can neither
be compiled nor exported; ``test_shapes.py`` of the conformance suite runs the part and model checks once more in a
process that does.
"""

from __future__ import annotations

import importlib.util
import os
import pkgutil

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

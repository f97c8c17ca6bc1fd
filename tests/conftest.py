"""Checks the shapes written in signatures when asked to: ``FORMWRIGHT_CHECK_SHAPES=1 pytest``.

Not by default, because code that checks shapes can neither be compiled nor exported; ``test_shapes.py`` of the
conformance suite runs the part and model checks once more in a process that does.
"""

from __future__ import annotations

import importlib.util
import os
import pkgutil

if os.environ.get("FORMWRIGHT_CHECK_SHAPES") == "1":
    import jaxtyping

    found = importlib.util.find_spec("formwright.nn")
    assert found is not None
    modules = {module.name for module in pkgutil.iter_modules(found.submodule_search_locations)}
    # Specifications are data without shapes; what they are decoded with has types that beartype does not know.
    checked = [f"formwright.nn.{name}" for name in sorted(modules - {"specification"})]
    jaxtyping.install_import_hook(checked, "beartype.beartype")

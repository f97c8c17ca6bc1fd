"""No convolution of the library reads or writes beyond its buffers in training: it would end the process, or the heap.

Two checks. Everywhere: which convolutions parts and models ask PyTorch for. On Linux with a C compiler: training steps
in a process whose every larger block of memory lies right before a page that nobody may touch.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.conformance.instances import (
    Case,
    build,
    call,
    cases_and_grids,
    inputs,
    smallest_variants,
    tiny_model,
    tokens,
)

ROOT = Path(__file__).parent.parent.parent
#: Blocks end at a page without access, up to the 64 bytes that they are aligned to; what is filled up holds a mark,
#: and whoever frees a block whose mark was overwritten ends the process.
GUARD = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { SMALLEST = 512, ALIGNMENT = 64, PAGE = 4096, PLACES = 1 << 18, MARK = 0xA5 };
struct block { char *start, *pages; size_t size, length; };
static struct block blocks[PLACES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static size_t place(const void *start) { return ((uintptr_t)start / ALIGNMENT) % PLACES; }
static size_t up(size_t size, size_t to) { return (size + to - 1) / to * to; }

int posix_memalign(void **out, size_t alignment, size_t size) {
  if (size < SMALLEST || alignment > ALIGNMENT) {
    int (*plain)(void **, size_t, size_t) = dlsym(RTLD_NEXT, "posix_memalign");
    return plain(out, alignment, size);
  }
  size_t used = up(size, ALIGNMENT), length = up(used, PAGE);
  char *pages = mmap(NULL, length + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) return ENOMEM;
  mprotect(pages + length, PAGE, PROT_NONE);
  char *start = pages + length - used;
  memset(start + size, MARK, used - size);
  pthread_mutex_lock(&lock);
  size_t at = place(start);
  while (blocks[at].start) at = (at + 1) % PLACES;
  blocks[at] = (struct block){start, pages, size, length};
  pthread_mutex_unlock(&lock);
  *out = start;
  return 0;
}

void free(void *start) {
  static void (*plain)(void *);
  if (!plain) plain = dlsym(RTLD_NEXT, "free");
  pthread_mutex_lock(&lock);
  size_t at = place(start), end = at + 256;
  while (at < end && blocks[at % PLACES].start != start) at++;
  struct block found = {0};
  if (start && at < end) found = blocks[at % PLACES], blocks[at % PLACES].start = NULL;
  pthread_mutex_unlock(&lock);
  if (!found.start) { plain(start); return; }
  for (char *end_of_block = found.pages + found.length, *at = start + found.size; at < end_of_block; at++)
    if (*at != (char)MARK) abort();
  munmap(found.pages, found.length + PAGE);
}
"""
BEYOND = """
import ctypes
library, block = ctypes.CDLL(None), ctypes.c_void_p()
assert library.posix_memalign(ctypes.byref(block), ctypes.c_size_t(64), ctypes.c_size_t({size})) == 0
ctypes.memset(block.value + {size}, 0, {written})
library.free(block)
"""


class Convolutions(TorchDispatchMode):
    """Records the kernel, stride, padding and grid of each convolution that is called."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[tuple[list[int], ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            x, weight, _, stride, padding, *_ = args
            self.called.append((list(weight.shape[2:]), list(stride), list(padding), list(x.shape[2:])))
        return func(*args, **(kwargs or {}))


def assert_safe(recorded: Convolutions) -> None:
    for kernel, stride, padding, grid in recorded.called:
        assert max(kernel) > 1 or max(stride) == 1, f"a kernel of one place with the stride {stride}"
        if len(kernel) == 3 and any(padding):
            assert all(map(int.__le__, kernel, grid)), f"a padded grid {grid} and a kernel {kernel}"


@pytest.mark.parametrize(("case", "grid"), cases_and_grids())
def test_parts_call_no_convolution_that_leaves_its_buffers(case: Case, grid: tuple[int, ...]) -> None:
    part, (x, context) = build(case, grid), tokens(case, grid)
    with Convolutions() as recorded:
        call(part, x, context)
    assert_safe(recorded)


@pytest.mark.parametrize(("family", "variant"), smallest_variants().items())
def test_models_call_no_convolution_that_leaves_its_buffers(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    with Convolutions() as recorded, torch.no_grad():
        model(inputs(model))
    assert recorded.called or family not in {"resnet", "poolformer", "cct"}
    assert_safe(recorded)


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process under the guard."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("the guard is made for Linux on x86-64, where the faults are")
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc) to build the guard with")
    folder = tmp_path_factory.mktemp("guard")
    (folder / "guard.c").write_text(GUARD)
    library = folder / "guard.so"
    options = ["-O1", "-shared", "-fPIC", "-o", str(library), str(folder / "guard.c"), "-ldl", "-lpthread"]
    subprocess.run([compiler, *options], check=True)
    return {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1", "FORMWRIGHT_CHECK_SHAPES": "0"}


def run_under(guard: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=guard, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("size", "written", "noticed"), [(8192, 1, True), (8000, 1, True), (8192, 0, False)])
def test_the_guard_notices_a_byte_beyond_a_block(guard: dict[str, str], size: int, written: int, noticed: bool) -> None:
    run = run_under(guard, "-c", BEYOND.format(size=size, written=written))
    assert (run.returncode < 0) is noticed, run.stderr[-2000:]


@pytest.mark.slow
def test_training_steps_stay_inside_their_buffers(guard: dict[str, str]) -> None:
    run = run_under(guard, "-m", "tests.conformance.guarded")
    *_, last = run.stdout.splitlines() or ["none"]
    assert run.returncode == 0, f"ended with status {run.returncode} in: {last}\n{run.stderr[-2000:]}"

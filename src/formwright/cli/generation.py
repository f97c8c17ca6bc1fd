"""The command that continues texts."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from formwright.cli.output import reporter
from formwright.cli.terminal import print_json
from formwright.errors import UserError

Prompts = Annotated[
    list[str],
    typer.Option("--prompt", "-p", help="Text to continue; may be given several times; - reads standard input."),
]


def generate(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="DIR", help="Folder of a saved language model, or of transformers; hf:ORG/NAME downloads one."
        ),
    ],
    prompt: Prompts,
    max_tokens: Annotated[int, typer.Option(min=1, help="How many tokens each text gets at most.")] = 200,
    temperature: Annotated[
        float, typer.Option(help="Below 1 keeps to likely tokens, above 1 dares more, 0 always takes the likeliest.")
    ] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Draw from so many likeliest tokens only.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw from the likeliest tokens that together reach this probability.")
    ] = None,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1 makes tokens that occurred less likely.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Decides what is drawn.")] = 0,
    stop: Annotated[
        list[str] | None, typer.Option(help="Text that is one token and ends a row, such as a newline; repeatable.")
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="A tokenizer.json, if the folder has none.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads to use; all of them if unset.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show the texts alone, without figures.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")] = False,
) -> None:
    """Continue texts with a saved language model, token by token; a text-to-text model answers them.

    A folder with a step.onnx is run by ONNX Runtime, without PyTorch.
    """
    from formwright.data.tokenization import read_tokenizer
    from formwright.hub import located
    from formwright.inference.sampling import Sampling

    prompts = _prompts(prompt)
    sampling = Sampling(temperature, top_k, top_p, repetition_penalty, seed)
    with reporter(quiet=quiet or as_json) as listener:
        where = located(folder, listener)
    write, answers = _writer(where, threads)
    text_to_ids = read_tokenizer(where if tokenizer is None else tokenizer)
    stops = [_single_token(text_to_ids.encode(text), text) for text in stop or []]
    shown = len(prompts) == 1 and not as_json
    leads = [""] * len(prompts) if answers else prompts
    texts, tokens, started = [""] * len(prompts), 0, time.perf_counter()
    for pieces in write(text_to_ids, prompts, tokens=max_tokens, sampling=sampling, stop=stops):
        if shown:
            _show(pieces[0] if tokens else leads[0] + pieces[0])
        tokens += 1
        texts = [text + piece for text, piece in zip(texts, pieces, strict=True)]
    seconds = time.perf_counter() - started
    if as_json:
        rows = [{"prompt": _valid(given), "text": text} for given, text in zip(prompts, texts, strict=True)]
        print_json({"texts": rows, "steps": tokens, "seconds": seconds})
    elif shown:
        _show("\n" if tokens else f"{leads[0]}\n")
    else:
        _show("\n".join(f"{lead}{text}\n" for lead, text in zip(leads, texts, strict=True)))
    if not (quiet or as_json):
        print(f"{tokens} tokens in {seconds:.2f} s, {tokens / seconds:.1f} per second and text", file=sys.stderr)


def _writer(folder: Path, threads: int | None) -> tuple[Callable[..., Iterator[list[str]]], bool]:
    """``generate_text`` of what is in the folder, and whether it answers texts rather than to continue them."""
    from formwright.deployment.streaming import STEP_FILE, OnnxStream

    if (folder / STEP_FILE).is_file():
        exported = OnnxStream(folder, threads=threads)
        return exported.generate_text, exported.writes
    import torch

    from formwright.inference.generation import check_writes, generate_text
    from formwright.models import from_pretrained

    if threads is not None:
        torch.set_num_threads(threads)
    model = from_pretrained(folder)
    check_writes(model)
    return functools.partial(generate_text, model), model.specification.task == "text-to-text"


def _prompts(given: Sequence[str]) -> list[str]:
    """The prompts; ``-`` stands for all of standard input, whose bytes are kept whatever they are."""
    texts = [sys.stdin.buffer.read().decode(errors="surrogateescape") if text == "-" else text for text in given]
    if not all(texts):
        raise UserError("A prompt is empty: give at least one character to continue.")
    return texts


def _single_token(ids: Sequence[int], text: str) -> int:
    if len(ids) != 1:
        raise UserError(f"{text!r} is {len(ids)} tokens of this model; only a text that is one token can end a row.")
    return ids[0]


def _show(text: str) -> None:
    if (sys.stdout.encoding or "").lower().startswith("utf"):  # bytes that make no character as they are
        sys.stdout.buffer.write(text.encode(errors="surrogateescape"))
    else:
        sys.stdout.write(text)
    sys.stdout.flush()


def _valid(text: str) -> str:
    """Bytes that make no character as U+FFFD, which JSON can hold."""
    return text.encode(errors="surrogateescape").decode(errors="replace")

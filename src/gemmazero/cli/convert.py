"""``gemmazero convert``: model formats in and out, each with a verdict."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gemmazero.cli import console
from gemmazero.cli.decoding_options import MODEL_HELP, Dtype

if TYPE_CHECKING:
    from gemmazero.conversion.verdict import Verdict


def convert(
    source: Annotated[str, typer.Argument(help=MODEL_HELP, metavar="SOURCE")],
    out: Annotated[Path, typer.Argument(help="The folder to write.", metavar="OUT")],
    *,
    to: Annotated[
        Literal["huggingface", "gemmazero"], typer.Option(help="The format written.", metavar="huggingface|gemmazero")
    ] = "huggingface",
    dtype: Annotated[Dtype, typer.Option(help="The type of the weights written.", metavar="fp32|bf16|fp16")] = "fp32",
    overwrite: Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace OUT if it is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print the verdict as one JSON object.")] = False,
) -> None:
    """Convert a model and compare the result with its source; a mismatch is exit 1."""
    from gemmazero import api

    verdict = api.convert(source, out, to=to, dtype=dtype, overwrite=overwrite)
    if as_json:
        console.result_json(verdict.to_json())
    else:
        console.result(in_words(verdict))
    if not verdict.ok:
        raise typer.Exit(1)


def in_words(verdict: "Verdict") -> str:
    """Whether it is the same model, and all that was compared to say so."""
    length = f"{verdict.sequences} sequences of {verdict.sequence_length} tokens"
    if not verdict.longer_than_window:
        length += ", no longer than the sliding window"
    lines = [
        f"{verdict.folder}: {'the same model' if verdict.ok else 'NOT the same model'}, {verdict.to}, {verdict.dtype}",
        f"  logits     {verdict.logits_compared}",
        f"             {length}; largest difference {verdict.largest_logit_difference:.2g}",
        f"             up to {verdict.logit_tolerance:.2g} is alike: {verdict.tolerance_reason}",
        f"             {verdict.next_tokens} next tokens, {verdict.different_next_tokens} chosen otherwise",
        f"  tokenizer  {verdict.tokenizers_compared}",
        f"             {verdict.texts} texts, {verdict.mismatched_texts} differ",
    ]
    if verdict.wrong_next_tokens:
        lines.append(
            f"  wrong      {verdict.wrong_next_tokens} of those next tokens: the tolerance does not explain them"
        )
    if verdict.largest_rounding_difference:
        lines.append(
            f"  rounding   to {verdict.dtype} moved a logit by up to {verdict.largest_rounding_difference:.2g}"
        )
    if verdict.trimmed_embeddings:
        lines.append(f"  left out   {verdict.trimmed_embeddings:,} embedding rows without a token")
    return "\n".join(lines)

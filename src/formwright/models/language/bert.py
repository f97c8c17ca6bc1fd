"""BERT: an encoder with norms after its branches, learned positions and types of tokens.

Source: BERT, arXiv 1810.04805; the small sizes: Well-Read Students Learn Better, arXiv 1908.08962. Equal to
transformers' models for masked language modelling and for classification of texts, whose checkpoints load.
"""

from __future__ import annotations

from formwright.models import Network, register_family
from formwright.models.checkpoints import Layout, State, fitted_head, register_layout, stacked
from formwright.models.language.transformer import layer_mixers, transformer_blocks
from formwright.nn.specification import ChainSpec, StageSpec, TokenInput, part

#: Ids of ``[PAD]`` and ``[SEP]`` in every published vocabulary.
_PADDING, _SEPARATOR = 0, 102


def bert(
    *,
    name: str = "bert",
    dim: int,
    depth: int,
    heads: int,
    hidden: int | None = None,
    activation: str = "gelu",
    norm_eps: float = 1e-12,
    dropout: float = 0.0,
    vocabulary: int = 30522,
    length: int = 512,
    padding: int | None = _PADDING,
    separator: int | None = _SEPARATOR,
    types: int | None = 2,
    tied: bool = True,
    classes: int | None = None,
) -> ChainSpec:
    """A BERT.

    Args:
        dim: channels of a token.
        depth: number of blocks.
        heads: attention heads.
        hidden: hidden width of the MLP; four times ``dim`` if unset.
        activation: that of the MLPs, and of the layer before the scores of tokens.
        separator: id of the token that ends a text, from which the types of tokens follow where they are not given.
        types: of tokens; none are told apart if unset, as in DistilBERT.
        tied: whether the scores of tokens use the weight of the token embedding.
        classes: number of classes of texts; predicts masked tokens if unset.
    """
    norm = part("layer_norm", eps=norm_eps)
    attention = part("attention", heads=heads, qkv_bias=True, dropout=dropout)
    blocks = transformer_blocks(
        layer_mixers(attention, depth, causal=False),
        part("mlp", hidden=hidden or 4 * dim, activation=activation, dropout=dropout),
        norm,
        post_norm=True,
    )
    embed = part("token_embedding")
    if types is not None:
        embed = part("typed_token_embedding", separator=separator, **({} if types == 2 else {"types": types}))
    pooler = part("chain", parts=(part("first_token_pool"), part("dense", activation="tanh")))
    transform = part("chain", parts=(part("dense", activation=activation), norm))
    return ChainSpec(
        family="bert",
        name=name,
        task="masked-language-modelling" if classes is None else "text-classification",
        input=TokenInput(vocabulary, length, padding, types=types),
        classes=vocabulary if classes is None else classes,
        embed=embed,
        stages=(StageSpec(dim, blocks, entry=(part("learned_positions", norm=norm),)),),
        head=part("token_scores", norm=transform, bias=True, tied=tied)
        if classes is None
        else part("classifier", pool=pooler),
    )


register_family(
    bert,
    {
        "bert_tiny": {"dim": 128, "depth": 2, "heads": 2},
        "bert_mini": {"dim": 256, "depth": 4, "heads": 4},
        "bert_small": {"dim": 512, "depth": 4, "heads": 8},
        "bert_medium": {"dim": 512, "depth": 8, "heads": 8},
        "bert_base_uncased": {"dim": 768, "depth": 12, "heads": 12},
        "bert_large_uncased": {"dim": 1024, "depth": 24, "heads": 16},
        "bert_base_cased": {"dim": 768, "depth": 12, "heads": 12, "vocabulary": 28996},
        "bert_large_cased": {"dim": 1024, "depth": 24, "heads": 16, "vocabulary": 28996},
    },
    family="bert",
    task="masked-language-modelling",
)


def _fit_head(state: State, model: Network) -> State:
    """Norms of the first checkpoints have other names, and scores with a matrix of their own have their bias there."""
    renamed: State = {}
    untied = model.specification.head.name == "token_scores" and not model.specification.head.options.get("tied")
    for name, tensor in state.items():
        path, dot, leaf = name.rpartition(".")
        name = f"{path}{dot}{_FIRST_NORMS.get(leaf, leaf)}"
        renamed["head.linear.bias" if untied and name == "head.bias" else name] = tensor
    return fitted_head(renamed, model)


#: How the norms of the first checkpoints called their parameters.
_FIRST_NORMS = {"gamma": "weight", "beta": "bias"}
_BERT = r"(?:bert\.)?"
_BLOCK = _BERT + r"encoder\.layer\.(\d+)\."
_OURS = r"backbone.stages.0.blocks.\1.branches."

register_layout(
    "bert",
    Layout(
        name="transformers",
        marker=r"^(bert\.)?encoder\.layer\.0\.attention\.self\.query\.weight$",
        renames=(
            (r".*position_ids", None),
            *stacked(_BLOCK + r"attention\.self\.{}\.(.*)", ("query", "key", "value"), _OURS + r"0.part.qkv.\2"),
            (_BLOCK + r"attention\.output\.dense\.(.*)", _OURS + r"0.part.proj.\2"),
            (_BLOCK + r"attention\.output\.LayerNorm\.(.*)", _OURS + r"0.post_norm.\2"),
            (_BLOCK + r"intermediate\.dense\.(.*)", _OURS + r"1.part.fc1.\2"),
            (_BLOCK + r"output\.dense\.(.*)", _OURS + r"1.part.fc2.\2"),
            (_BLOCK + r"output\.LayerNorm\.(.*)", _OURS + r"1.post_norm.\2"),
            (_BERT + r"embeddings\.word_embeddings\.weight", r"backbone.embed.weight"),
            (_BERT + r"embeddings\.token_type_embeddings\.weight", r"backbone.embed.types"),
            (_BERT + r"embeddings\.position_embeddings\.weight", r"backbone.stages.0.entry.0.table"),
            (_BERT + r"embeddings\.LayerNorm\.(.*)", r"backbone.stages.0.entry.0.norm.\1"),
            (_BERT + r"pooler\.dense\.(.*)", r"head.pool.parts.1.linear.\1"),
            (r"classifier\.(.*)", r"head.linear.\1"),
            (r"cls\.predictions\.transform\.dense\.(.*)", r"head.norm.parts.0.linear.\1"),
            (r"cls\.predictions\.transform\.LayerNorm\.(.*)", r"head.norm.parts.1.\1"),
            (r"cls\.predictions\.(?:decoder\.)?bias", r"head.bias"),
            (r"cls\.predictions\.decoder\.weight", r"head.linear.weight"),
            (r"cls\.seq_relationship\..*", None),
        ),
        convert=_fit_head,
    ),
)

_DISTIL = r"(?:distilbert\.)?"
_LAYER = _DISTIL + r"transformer\.layer\.(\d+)\."

register_layout(
    "bert",
    Layout(
        name="transformers (DistilBERT)",
        marker=r"^(distilbert\.)?transformer\.layer\.0\.attention\.q_lin\.weight$",
        renames=(
            (r".*position_ids", None),
            *stacked(_LAYER + r"attention\.{}_lin\.(.*)", "qkv", _OURS + r"0.part.qkv.\2"),
            (_LAYER + r"attention\.out_lin\.(.*)", _OURS + r"0.part.proj.\2"),
            (_LAYER + r"sa_layer_norm\.(.*)", _OURS + r"0.post_norm.\2"),
            (_LAYER + r"ffn\.lin1\.(.*)", _OURS + r"1.part.fc1.\2"),
            (_LAYER + r"ffn\.lin2\.(.*)", _OURS + r"1.part.fc2.\2"),
            (_LAYER + r"output_layer_norm\.(.*)", _OURS + r"1.post_norm.\2"),
            (_DISTIL + r"embeddings\.word_embeddings\.weight", r"backbone.embed.weight"),
            (_DISTIL + r"embeddings\.position_embeddings\.weight", r"backbone.stages.0.entry.0.table"),
            (_DISTIL + r"embeddings\.LayerNorm\.(.*)", r"backbone.stages.0.entry.0.norm.\1"),
            (r"pre_classifier\.(.*)", r"head.pool.parts.1.linear.\1"),
            (r"classifier\.(.*)", r"head.linear.\1"),
            (r"vocab_transform\.(.*)", r"head.norm.parts.0.linear.\1"),
            (r"vocab_layer_norm\.(.*)", r"head.norm.parts.1.\1"),
            (r"vocab_projector\.bias", r"head.bias"),
            (r"vocab_projector\.weight", r"head.linear.weight"),
        ),
        convert=_fit_head,
    ),
)

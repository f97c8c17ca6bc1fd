"""DistilBERT: a BERT without types of tokens and without a pooler."""

from __future__ import annotations

import dataclasses

from formwright.models.configurations.bert import MASKED, TEXTS
from formwright.models.configurations.kind import Described, Head, Kind, pooled, register_kind, with_features
from formwright.models.language.bert import bert
from formwright.nn.specification import ChainSpec, part


def _specification(described: Described) -> ChainSpec:
    options = described.options
    specification = bert(
        name=described.name,
        dim=options["dim"],
        depth=options["n_layers"],
        heads=options["n_heads"],
        hidden=options["hidden_dim"],
        activation=described.activation("activation"),
        vocabulary=options["vocab_size"],
        length=options["max_position_embeddings"],
        padding=described.identifier("pad_token_id"),
        separator=None,
        types=None,
        tied=options["tie_word_embeddings"],
        classes=described.classes if described.task == TEXTS else None,
    )
    if described.task == "features":
        return with_features(specification, pool=pooled(described, None))
    if described.task == MASKED:
        return specification
    pool = part("chain", parts=(part("first_token_pool"), part("dense", activation="relu")))
    return dataclasses.replace(specification, head=part("classifier", pool=pool))


register_kind(
    Kind(
        name="distilbert",
        build=_specification,
        heads=(
            Head(("DistilBertForSequenceClassification",), TEXTS, "pre_classifier."),
            Head(("DistilBertForMaskedLM",), MASKED, "vocab_transform."),
            Head(("DistilBertModel",), "features"),
        ),
        read={
            "vocab_size": 30522,
            "max_position_embeddings": 512,
            "n_layers": 6,
            "n_heads": 12,
            "dim": 768,
            "hidden_dim": 3072,
            "activation": "gelu",
            "pad_token_id": 0,
            "tie_word_embeddings": True,
        },
        unused=(
            "dropout",
            "attention_dropout",
            "qa_dropout",
            "seq_classif_dropout",
            "initializer_range",
            "bos_token_id",
            "eos_token_id",
            "sinusoidal_pos_embds",  # how the table of positions began; it is saved like any other
        ),
        aliases={"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"},
    )
)

"""BERT and what has its configuration, such as MiniLM."""

from __future__ import annotations

from formwright.models.configurations.kind import Described, Head, Kind, pooled, register_kind, with_features
from formwright.models.language.bert import bert
from formwright.nn.specification import ChainSpec, part

MASKED, TEXTS = "masked-language-modelling", "text-classification"


def _specification(described: Described) -> ChainSpec:
    options = described.options
    specification = bert(
        name=described.name,
        dim=options["hidden_size"],
        depth=options["num_hidden_layers"],
        heads=options["num_attention_heads"],
        hidden=options["intermediate_size"],
        activation=described.activation("hidden_act"),
        norm_eps=options["layer_norm_eps"],
        vocabulary=options["vocab_size"],
        length=options["max_position_embeddings"],
        padding=described.identifier("pad_token_id"),
        separator=described.separator,
        types=options["type_vocab_size"],
        tied=options["tie_word_embeddings"],
        classes=described.classes if described.task == TEXTS else None,
    )
    if described.task != "features":
        return specification
    pooler = part("chain", parts=(part("first_token_pool"), part("dense", activation="tanh")))
    return with_features(
        specification, pool=pooled(described, pooler if described.has("pooler.dense.weight") else None)
    )


register_kind(
    Kind(
        name="bert",
        build=_specification,
        heads=(
            Head(("BertForSequenceClassification",), TEXTS, "classifier."),
            Head(("BertForMaskedLM", "BertForPreTraining", "BertLMHeadModel"), MASKED, "cls.predictions."),
            Head(("BertModel",), "features"),
        ),
        read={
            "vocab_size": 30522,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "hidden_act": "gelu",
            "max_position_embeddings": 512,
            "type_vocab_size": 2,
            "layer_norm_eps": 1e-12,
            "pad_token_id": 0,
            "tie_word_embeddings": True,
        },
        fixed={"position_embedding_type": "absolute"},
        unused=(
            "hidden_dropout_prob",
            "attention_probs_dropout_prob",
            "classifier_dropout",
            "initializer_range",
            "use_cache",
            "bos_token_id",
            "eos_token_id",
        ),
    )
)

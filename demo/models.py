"""Two models made on the spot, the same bytes for the same seed, and how to tell that they work.

    <iris>/        model.joblib  README.md
    <checkpoint>/  config.json  generation_config.json  tokenizer.json  tokenizer_config.json
                   model-0000i-of-0000n.safetensors  model.safetensors.index.json

The iris classifier is KServe's own first example, with the file name that its sklearn server looks
for. The checkpoint has the files, tensor names and shapes of a Llama; its weights are noise.
The libraries are imported where they are used: they take seconds to load.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SMALLEST_CHECKPOINT_BYTES: Final = 128 * 1024
SHARD_BYTES: Final = 128 * 1000 * 1000
WEIGHT_BYTES: Final = 2  # float16
SPECIAL_TOKENS: Final = ("<unk>", "<s>", "</s>")

_README = """\
---
library_name: sklearn
tags: [tabular-classification]
---
# Iris

A support vector classifier of scikit-learn's iris data: four lengths in, one of three species out.
"""


def make_iris(directory: Path) -> None:
    """Train the classifier into a directory, which is made."""
    import joblib  # type: ignore[import-untyped]  # noqa: PLC0415 - no types; slow
    from sklearn import datasets, svm  # type: ignore[import-untyped]  # noqa: PLC0415 - likewise

    features, species = datasets.load_iris(return_X_y=True)
    directory.mkdir(parents=True, exist_ok=True)
    joblib.dump(svm.SVC(gamma="scale").fit(features, species), directory / "model.joblib")
    (directory / "README.md").write_text(_README)


def check_iris(directory: Path) -> str:
    """Load the classifier, let it predict its training data, and say how well it did.

    Raises: ValueError if it is right in fewer than nine of ten cases.
    """
    import joblib  # noqa: PLC0415 - slow
    from sklearn import datasets  # noqa: PLC0415 - slow

    iris = datasets.load_iris()
    predicted = joblib.load(directory / "model.joblib").predict(iris.data)
    right, total = int((predicted == iris.target).sum()), len(iris.target)
    if right < 0.9 * total:
        raise ValueError(f"{directory}: the classifier is right in only {right} of {total} cases")
    return f"{', '.join(iris.target_names)}: {right} of {total} right"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One weight matrix of the checkpoint; `number` and the seed decide its values."""

    name: str
    shape: tuple[int, ...]
    number: int

    @property
    def size_bytes(self) -> int:
        """Its size in a shard."""
        rows, columns = self.shape[0], self.shape[-1]
        return WEIGHT_BYTES * (rows * columns if len(self.shape) > 1 else rows)

    def weights(self, seed: int) -> "NDArray[np.float16]":
        """Noise with the size of real weights: 2**-6 to 2**-5, of either sign."""
        import numpy as np  # noqa: PLC0415 - slow

        noise = np.random.default_rng([seed, self.number]).bytes(self.size_bytes)
        bits = np.frombuffer(noise, dtype="<u2") & 0x83FF  # sign and fraction
        bits |= 0x2400  # exponent -6
        return bits.view("<f2").reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a Llama's configuration."""

    hidden: int
    layers: int
    vocabulary: int

    @classmethod
    def for_size(cls, size_bytes: int) -> "Shape":
        """A model of that many bytes of weights, to within one row of its vocabulary."""
        hidden = 16
        while 8 * cls(2 * hidden, 1, 0).size_bytes <= size_bytes:
            hidden *= 2
        without = cls(hidden, 0, 0).size_bytes
        layer = cls(hidden, 1, 0).size_bytes - without
        layers = size_bytes * 3 // 4 // layer
        rest = size_bytes - without - layers * layer
        return cls(hidden, layers, rest // (2 * hidden * WEIGHT_BYTES))

    @property
    def heads(self) -> int:
        """Attention heads; a quarter as many for keys and values."""
        return max(4, self.hidden // 64)

    @property
    def intermediate(self) -> int:
        """Width of the layers' inner part."""
        return self.hidden * 11 // 4

    @property
    def size_bytes(self) -> int:
        """All weights together."""
        return sum(tensor.size_bytes for tensor in self.tensors())

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor, in the order in which they are written."""
        for number, (name, shape) in enumerate(self._named_shapes()):
            yield Tensor(name, shape, number)

    def _named_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        hidden, inner, narrow = self.hidden, self.intermediate, self.hidden // 4
        yield "model.embed_tokens.weight", (self.vocabulary, hidden)
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            yield prefix + "input_layernorm.weight", (hidden,)
            yield prefix + "self_attn.q_proj.weight", (hidden, hidden)
            yield prefix + "self_attn.k_proj.weight", (narrow, hidden)
            yield prefix + "self_attn.v_proj.weight", (narrow, hidden)
            yield prefix + "self_attn.o_proj.weight", (hidden, hidden)
            yield prefix + "post_attention_layernorm.weight", (hidden,)
            yield prefix + "mlp.gate_proj.weight", (inner, hidden)
            yield prefix + "mlp.up_proj.weight", (inner, hidden)
            yield prefix + "mlp.down_proj.weight", (hidden, inner)
        yield "model.norm.weight", (hidden,)
        yield "lm_head.weight", (self.vocabulary, hidden)


def make_checkpoint(directory: Path, size_bytes: int, seed: int = 0) -> None:
    """Write a sharded checkpoint with about `size_bytes` of weights into a directory, made.

    Raises: ValueError if that is too small for a model with a tokenizer.
    """
    from safetensors.numpy import save_file  # noqa: PLC0415 - slow

    if size_bytes < SMALLEST_CHECKPOINT_BYTES:
        raise ValueError(
            f"a checkpoint of {size_bytes} bytes: at least {SMALLEST_CHECKPOINT_BYTES} are needed"
        )
    shape = Shape.for_size(size_bytes)
    directory.mkdir(parents=True, exist_ok=True)
    shards = list(_shards(shape.tensors(), min(SHARD_BYTES, size_bytes // 2)))
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        weights = {tensor.name: tensor.weights(seed) for tensor in shard}
        save_file(weights, directory / name, metadata={"format": "pt"})
        (directory / name).chmod(0o644)  # safetensors lets only its owner read it
        weight_map |= dict.fromkeys(weights, name)
    documents = {
        "config.json": _config(shape),
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2, "do_sample": False},
        "model.safetensors.index.json": {
            "metadata": {"total_size": shape.size_bytes},
            "weight_map": weight_map,
        },
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": SPECIAL_TOKENS[0],
            "bos_token": SPECIAL_TOKENS[1],
            "eos_token": SPECIAL_TOKENS[2],
            "model_max_length": 2048,
        },
    }
    for name, document in documents.items():
        (directory / name).write_text(json.dumps(document, indent=2) + "\n")


def check_checkpoint(directory: Path, seed: int = 0) -> str:
    """Open every shard by the index, compare every tensor with what the seed says, and sum up.

    Raises: ValueError naming the first tensor that is missing or differs.
    """
    import numpy as np  # noqa: PLC0415 - slow
    from safetensors import safe_open  # noqa: PLC0415 - slow

    config = json.loads((directory / "config.json").read_text())
    index = json.loads((directory / "model.safetensors.index.json").read_text())
    shape = Shape(config["hidden_size"], config["num_hidden_layers"], config["vocab_size"])
    tensors = list(shape.tensors())
    weight_map: dict[str, str] = index["weight_map"]
    if weight_map.keys() != {tensor.name for tensor in tensors}:
        raise ValueError(f"{directory}: the index does not name the tensors of a Llama")
    for shard in sorted(set(weight_map.values())):
        with safe_open(directory / shard, framework="numpy") as opened:
            for tensor in (t for t in tensors if weight_map[t.name] == shard):
                read = opened.get_tensor(tensor.name)
                wanted = tensor.weights(seed)
                if read.dtype != wanted.dtype or not np.array_equal(read, wanted):
                    raise ValueError(f"{directory / shard}: {tensor.name} is not what was written")
    shards = len(set(weight_map.values()))
    return f"{len(tensors)} tensors, {shape.size_bytes} bytes in {shards} shards, all as written"


def files_below(models: Path) -> Iterator[Path]:
    """Every file of a model, without what the hub's client leaves beside it."""
    for folder, folders, names in os.walk(models):
        if Path(folder) == models and ".cache" in folders:
            folders.remove(".cache")
        yield from (Path(folder, name) for name in names)


def _shards(tensors: Iterable[Tensor], limit_bytes: int) -> Iterator[list[Tensor]]:
    """Cut the tensors into runs of at most `limit_bytes`, but of one tensor at least."""
    shard: list[Tensor] = []
    for tensor in tensors:
        if shard and sum(t.size_bytes for t in shard) + tensor.size_bytes > limit_bytes:
            yield shard
            shard = []
        shard.append(tensor)
    yield shard


def _config(shape: Shape) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float16",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads // 4,
        "max_position_embeddings": 2048,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def _tokenizer() -> dict[str, object]:
    """A byte-level BPE without merges: a token for each byte, after the special ones."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    letters = [*map(chr, printable), *(chr(0x100 + place) for place in range(len(others)))]
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *letters])}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": token, "special": True, **flags}
            for number, token in enumerate(SPECIAL_TOKENS)
        ],
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "use_regex": True},
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": True},
        "model": {"type": "BPE", "unk_token": SPECIAL_TOKENS[0], "vocab": vocabulary, "merges": []},
    }

"""The demo's two models: the same for the same seed, and no other."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from demo.models import (
    SMALLEST_CHECKPOINT_BYTES,
    Shape,
    check_checkpoint,
    check_iris,
    make_checkpoint,
    make_iris,
)

SIZE_BYTES = 200_000


def files(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def test_the_iris_classifier_predicts_its_species(tmp_path: Path) -> None:
    make_iris(tmp_path / "iris")
    assert set(files(tmp_path / "iris")) == {"model.joblib", "README.md"}
    assert check_iris(tmp_path / "iris").startswith("setosa, versicolor, virginica: 14")


def test_the_iris_classifier_is_the_same_every_time(tmp_path: Path) -> None:
    make_iris(tmp_path / "a")
    make_iris(tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_a_classifier_that_guesses_is_refused(tmp_path: Path) -> None:
    import joblib  # type: ignore[import-untyped]  # noqa: PLC0415 - no types; slow
    from sklearn.dummy import (  # type: ignore[import-untyped]  # noqa: PLC0415 - likewise
        DummyClassifier,
    )

    joblib.dump(DummyClassifier().fit([[0.0] * 4], [0]), tmp_path / "model.joblib")
    with pytest.raises(ValueError, match="right in only 50 of 150 cases"):
        check_iris(tmp_path)


def test_a_checkpoint_has_the_files_of_a_llama(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "m", SIZE_BYTES, seed=1)
    index = json.loads((tmp_path / "m/model.safetensors.index.json").read_text())
    shards = set(index["weight_map"].values())
    assert len(shards) > 1
    others = {"config.json", "generation_config.json", "model.safetensors.index.json"}
    assert set(files(tmp_path / "m")) == shards | others | {
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert index["metadata"]["total_size"] == pytest.approx(SIZE_BYTES, rel=0.01)
    assert sum((tmp_path / "m" / s).stat().st_size for s in shards) > SIZE_BYTES * 0.99
    assert "all as written" in check_checkpoint(tmp_path / "m", seed=1)


def test_a_checkpoint_is_the_same_for_a_seed_and_another_for_another(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_checkpoint(tmp_path / name, SIZE_BYTES, seed)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    shards = [name for name in files(tmp_path / "a") if name.endswith(".safetensors")]
    assert all(files(tmp_path / "a")[name] != files(tmp_path / "c")[name] for name in shards)
    with pytest.raises(ValueError, match="is not what was written"):
        check_checkpoint(tmp_path / "a", seed=2)


def test_a_checkpoints_weights_are_finite_and_small(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "m", SIZE_BYTES)
    for shard in (tmp_path / "m").glob("*.safetensors"):
        with safe_open(shard, framework="numpy") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a dict
                sizes = abs(opened.get_tensor(name))
                assert sizes.min() >= 2**-6
                assert sizes.max() < 2**-5


def test_a_flipped_bit_in_a_weight_is_found(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "m", SIZE_BYTES)
    shard = max((tmp_path / "m").glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=r"lm_head\.weight is not what was written"):
        check_checkpoint(tmp_path / "m")


def test_an_index_without_a_tensor_is_found(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "m", SIZE_BYTES)
    path = tmp_path / "m/model.safetensors.index.json"
    index = json.loads(path.read_text())
    del index["weight_map"]["model.norm.weight"]
    path.write_text(json.dumps(index))
    with pytest.raises(ValueError, match="the index does not name the tensors"):
        check_checkpoint(tmp_path / "m")


def test_a_checkpoint_too_small_for_its_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 131072 are needed"):
        make_checkpoint(tmp_path / "m", SMALLEST_CHECKPOINT_BYTES - 1)
    assert not (tmp_path / "m").exists()


@given(size_bytes=st.integers(SMALLEST_CHECKPOINT_BYTES, 200 * 10**9))
def test_a_shape_fits_its_size_and_has_room_for_the_tokenizer(size_bytes: int) -> None:
    shape = Shape.for_size(size_bytes)
    assert 0 <= size_bytes - shape.size_bytes < 4 * shape.hidden
    assert shape.vocabulary >= 256 + 3
    assert shape.layers >= 6
    assert shape.hidden % shape.heads == 0

import pytest
import safetensors.torch
import torch
from hypothesis import given, strategies as st

from harp.errors import HarpError
from harp.trees import load_tensors, load_tree, save_tree

keys = st.sampled_from(["a", "b", "conv.weight", "0.bias", "weight"])
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3), max_leaves=5)
tensors = st.sampled_from(
    [
        torch.tensor(1.5),
        torch.tensor([[1, 2], [3, 4]]),
        torch.tensor([True, False]),
        torch.zeros(0, 3),
        torch.arange(6.0).view(2, 3).t(),
        torch.tensor([1.0, -0.0], dtype=torch.bfloat16),
        torch.tensor([float("nan"), float("inf")], dtype=torch.float64),
    ]
)
trees = st.recursive(values | tensors, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=12)


def joined(tree, path=()):
    """The dotted name of every tensor in `tree`."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from joined(value, (*path, key))
        elif isinstance(value, torch.Tensor):
            yield ".".join((*path, key))


def same(first, second):
    if isinstance(first, dict):
        return (
            isinstance(second, dict) and first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
        )
    if isinstance(first, torch.Tensor):
        alike = isinstance(second, torch.Tensor) and first.dtype == second.dtype and first.shape == second.shape
        return alike and torch.equal(first.nan_to_num(7), second.nan_to_num(7))
    return type(first) is type(second) and first == second


@given(st.dictionaries(keys, trees, max_size=3))
def test_a_tree_comes_back_as_it_was_saved(tmp_path_factory, tree):
    names = list(joined(tree))
    path = tmp_path_factory.mktemp("tree") / "tree.safetensors"
    if len(set(names)) < len(names):
        with pytest.raises(ValueError, match="two tensors are named"):
            save_tree(path, tree)
    else:
        save_tree(path, tree)
        assert same(load_tree(path), tree)


def test_tensors_that_share_memory_come_back_apart(tmp_path):
    weight = torch.ones(2)
    save_tree(tmp_path / "t", {"first": weight, "second": weight, "part": weight[:1]})
    tree = load_tree(tmp_path / "t")
    tree["first"].zero_()
    assert tree["second"].tolist() == [1, 1]
    assert tree["part"].tolist() == [1]


def test_a_saved_tree_is_a_plain_safetensors_file(tmp_path):
    save_tree(tmp_path / "t", {"model": {"conv.weight": torch.ones(2)}, "step": 3})
    assert safetensors.torch.load_file(tmp_path / "t")["model.conv.weight"].tolist() == [1, 1]


def test_a_foreign_safetensors_file_is_flat(tmp_path):
    safetensors.torch.save_file({"a.b": torch.ones(2)}, tmp_path / "t", metadata={"format": "pt"})
    tree = load_tree(tmp_path / "t")
    assert list(tree) == ["a.b"]
    assert tree["a.b"].tolist() == [1, 1]


def test_a_tree_cut_short_anywhere_is_refused(tmp_path):
    path = tmp_path / "t"
    save_tree(path, {"model": {"weight": torch.ones(2), "bias": torch.ones(1)}, "step": 3})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(HarpError, match="is not a whole safetensors file"):
            load_tree(path)


@pytest.mark.parametrize("header", ["{", "[]", "{}", '{"names": {}}', '{"names": {"w": 3}, "values": {}}'])
def test_a_damaged_header_is_refused(tmp_path, header):
    safetensors.torch.save_file({"w": torch.ones(1)}, tmp_path / "t", metadata={"harp": header})
    with pytest.raises(HarpError, match="is not a whole safetensors file"):
        load_tree(tmp_path / "t")


def test_a_missing_tree_and_a_folder_are_refused(tmp_path):
    with pytest.raises(HarpError, match="no file"):
        load_tree(tmp_path / "none")
    with pytest.raises(HarpError, match="safetensors file"):
        load_tree(tmp_path)


def test_what_is_neither_tensor_nor_json_is_not_saved(tmp_path):
    # A pickle could hold it; then a checkpoint could hold code.
    with pytest.raises(TypeError):
        save_tree(tmp_path / "t", {"thing": object()})
    assert not (tmp_path / "t").exists()


def test_every_flipped_bit_of_a_tree_is_noticed(tmp_path):
    path = tmp_path / "t"
    tree = {"model": {"weight": torch.tensor([1.0, 2.0]), "mask": torch.tensor([True, False])}, "step": 3}
    save_tree(path, tree)
    whole, told = path.read_bytes(), set()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            # A letter of the one name under which harp's part of the header stands: the tensors are whole, but flat.
            assert load_tree(path).keys() == {"model.weight", "model.mask"}
            assert whole[place : place + 1] in b"harp"
        except HarpError as error:
            told.add(str(error).removeprefix(f"{path} ").partition(":")[0])
    assert told == {"is not a whole safetensors file"}


def test_a_tree_without_a_digest_is_read_as_it_is(tmp_path):
    header = '{"names": {"a.b": ["a", "b"]}, "values": {"step": 3}}'
    safetensors.torch.save_file({"a.b": torch.ones(2)}, tmp_path / "t", metadata={"harp": header})
    tree = load_tree(tmp_path / "t")
    assert tree["step"] == 3
    assert tree["a"]["b"].tolist() == [1, 1]


def test_the_same_tree_gives_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        save_tree(tmp_path / name, {"b": torch.ones(2), "a": torch.zeros(1), "step": 3})
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_a_checkpoint_is_no_file_of_weights(tmp_path):
    save_tree(tmp_path / "weights", {"weight": torch.ones(2)})
    assert load_tensors(tmp_path / "weights")["weight"].tolist() == [1, 1]
    save_tree(tmp_path / "checkpoint", {"model": {"weight": torch.ones(2)}, "step": 3})
    with pytest.raises(HarpError, match="checkpoint holds more than tensors: model in it is none"):
        load_tensors(tmp_path / "checkpoint")


def test_a_tree_of_another_type_is_refused(tmp_path):
    save_tree(tmp_path / "t", {"n": 3})
    assert load_tree(tmp_path / "t", dict[str, int]) == {"n": 3}
    with pytest.raises(HarpError, match="another version: n: input should be a valid list, got 3"):
        load_tree(tmp_path / "t", dict[str, list[int]])

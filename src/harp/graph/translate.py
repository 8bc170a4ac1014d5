"""An exported program as a graph: names of the state, arguments by schema, steps without effect gone."""

import operator as python
from typing import Any

import torch
from torch import Tensor

from harp.errors import HarpError
from harp.graph.calls import CONSTANTS
from harp.graph.ir import Graph, Node, Ref, Value
from harp.graph.normal import FORMS, SINGLE, normal
from harp.graph.operators import OPERATORS, Parameter, operator

_ASSERTS = ("_assert", "sym_constrain_range")
_DROPOUTS = {"dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"}
_SAME = {"alias", "detach", "lift_fresh_copy", "lift_fresh", *_DROPOUTS}
_COPIES = {"clone", "_to_copy", "to.dtype"}
_SIZES = {
    python.add: "int_add",
    python.sub: "int_sub",
    python.mul: "int_mul",
    python.floordiv: "int_floordiv",
    python.mod: "int_mod",
    python.neg: "int_neg",
    python.getitem: "getitem",
}
_KNOWN = OPERATORS | _SAME | _COPIES | SINGLE.keys() | FORMS.keys()
_TEXT = {value: name for name, value in CONSTANTS.items()}


def translate(program: Any, shape: tuple[int, ...], batch: int | None) -> Graph:
    """The graph of a `torch.export.ExportedProgram` without decompositions, for images [n, *shape].

    Raises `HarpError` as `capture` does.
    """
    return _Translation(program).graph(shape, batch)


class _Translation:
    def __init__(self, program: Any):
        self.program = program
        self.signature = program.graph_signature
        self.values: dict[str, Value] = {}  # by name in the program
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.taken: set[str] = set()
        self.of_images: set[str] = set()  # names in the graph of what depends on the images, or on how many there are
        self.of_pixels: set[str] = set()  # ... of what depends on more than how many there are
        self.computed: dict[str, Any] = {}  # by name in the program: numbers made of weights alone, once and for all

    def graph(self, shape: tuple[int, ...], batch: int | None) -> Graph:
        image, output = self._image(), self._output()
        self._name_tensors()
        name = self._free(image)
        self.values[image] = Ref(name)
        self.of_images.add(name)
        self.of_pixels.add(name)
        steps = [node for node in self.program.graph.nodes if node.op == "call_function"]
        _check_fixed(steps)
        for node in steps:
            self._step(node)
        last = self.values[output]
        if not isinstance(last, Ref) or last.name not in self.of_pixels:
            raise HarpError("the network's logits do not depend on its images")
        return Graph(name, shape, tuple(self.nodes), last.name, self.tensors, batch).pruned()

    def _image(self) -> str:
        names = tuple(self.signature.user_inputs)
        if len(names) != 1 or not isinstance(names[0], str):
            raise HarpError(f"the network takes {len(names)} inputs; expected one, the images")
        return names[0]

    def _output(self) -> str:
        changed = [*self.signature.buffers_to_mutate.values(), *self.signature.user_inputs_to_mutate.values()]
        if changed:
            raise HarpError(f"the network changes {changed[0]} in eval mode; expected one that only computes logits")
        (results,) = (node.args[0] for node in self.program.graph.nodes if node.op == "output")
        if len(results) != 1 or not isinstance(results[0], torch.fx.Node):
            raise HarpError(f"the network returns {len(results)} values; expected logits, which harp.Logits picks")
        shape = tuple(results[0].meta["val"].shape)
        if len(shape) != 2:
            raise HarpError(f"the network returns a tensor of {len(shape)} dimensions; expected logits [n, classes]")
        return str(results[0].name)

    def _name_tensors(self) -> None:
        state = {**self.program.state_dict, **self.program.constants}
        first: dict[Any, str] = {}
        for place, name in {
            **self.signature.inputs_to_parameters,
            **self.signature.inputs_to_buffers,
            **self.signature.inputs_to_lifted_tensor_constants,
        }.items():
            tensor = state[name]
            # A tied tensor is one storage read in one way, under two names.
            key = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()) if tensor.numel() else name
            kept = first.setdefault(key, name)
            self.tensors[kept] = tensor.detach().cpu().contiguous()
            self.values[place] = Ref(kept)
        self.taken = {*self.tensors}

    def _free(self, name: str) -> str:
        free, count = name, 0
        while free in self.taken:
            count += 1
            free = f"{name}.{count}"
        self.taken.add(free)
        return free

    def _step(self, node: Any) -> None:
        name = _operator_name(node.target)
        if name.startswith(_ASSERTS) or not node.users:
            return
        if _without_effect(node, name):
            self.values[node.name] = self._value(node.args[0])
            return
        if self._of_weights(node) and (not known(node) or self._reads_several(node)):
            self._compute(node)
            return
        given = self._given(node, name)
        of_images = not self.of_images.isdisjoint(Node("", name, tuple(given.values())).refs())
        name, given = normal(name, given, node, of_images)
        if name not in OPERATORS:
            raise HarpError(f"{_place(node)} uses {name}, an operator that no graph may use")
        args = tuple(self._argument(given, parameter) for parameter in operator(name).parameters)
        made = Node(self._free(node.name), name, args)
        self.nodes.append(made)
        if of_images:
            self.of_images.add(made.name)
        if name != "sym_size.int" and not self.of_pixels.isdisjoint(made.refs()):
            self.of_pixels.add(made.name)
        self.values[node.name] = Ref(made.name)

    def _of_weights(self, node: Any) -> bool:
        """Whether PyTorch can compute the step here and now: it reads nothing that depends on the images."""
        values = [self.values.get(part.name) for part in node.all_input_nodes if part.name not in self.computed]
        fixed = all(isinstance(value, Ref) and value.name not in self.of_images for value in values)
        return fixed and (isinstance(node.target, torch._ops.OpOverload) or self._reads_several(node))

    def _reads_several(self, node: Any) -> bool:
        """Whether it picks one of several numbers that were computed and are no tensor of the graph."""
        read = [self.computed[part.name] for part in node.all_input_nodes if part.name in self.computed]
        return not all(isinstance(value, Tensor) for value in read)

    def _compute(self, node: Any) -> None:
        value = self.computed[node.name] = self._number(node)
        if isinstance(value, Tensor):
            name = self._free(node.name)
            self.tensors[name] = value.detach().clone(memory_format=torch.contiguous_format)
            self.values[node.name] = Ref(name)

    def _number(self, node: Any) -> Any:
        """What a step makes of weights alone."""
        if node.op == "placeholder":
            return self.tensors[self.values[node.name].name]
        if node.name not in self.computed:
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), self._number)
            here = {"device": torch.device("cpu")} if kwargs.get("device") is not None else {}
            self.computed[node.name] = node.target(*args, **{**kwargs, **here})
        return self.computed[node.name]

    def _given(self, node: Any, name: str) -> dict[str, Value]:
        """Arguments by the names in the schema, as far as they were given."""
        schema = getattr(node.target, "_schema", None)
        if schema is None and name not in OPERATORS:
            raise HarpError(f"{_place(node)} uses {name}, an operator that no graph may use")
        names = [p.name for p in (schema.arguments if schema else operator(name).parameters)]
        given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
        return {key: self._value(value) for key, value in given.items()}

    def _argument(self, given: dict[str, Value], parameter: Parameter) -> Value:
        value = given.get(parameter.name, parameter.default)
        if "Device" in parameter.kind or parameter.name == "pin_memory":
            return None
        return (value,) if "List[" in parameter.kind and not isinstance(value, tuple | None) else value

    def _value(self, value: Any) -> Value:
        if isinstance(value, torch.fx.Node):
            return self.values[value.name]
        if isinstance(value, list | tuple):
            return tuple(map(self._value, value))
        if isinstance(value, torch.dtype | torch.layout | torch.memory_format):
            return _TEXT.get(value, str(value))
        return value


def _operator_name(target: Any) -> str:
    if target in _SIZES:
        return _SIZES[target]
    name = str(target)
    return name.removeprefix("aten.").removesuffix(".default")


def known(node: Any) -> bool:
    """Whether the step can stand in a graph as it is, or leaves none in it."""
    name = _operator_name(node.target)
    return not node.users or name.startswith(_ASSERTS) or name in _KNOWN


def random(node: Any) -> bool:
    """Whether the step draws random numbers."""
    name = _operator_name(node.target)
    if name in _DROPOUTS:
        return node.args[2] is True and node.args[1] != 0
    if name in OPERATORS:
        return False
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _check_fixed(steps: list[Any]) -> None:
    drawn = next((node for node in steps if node.users and random(node)), None)
    if drawn is not None:
        raise HarpError(
            f"{_place(drawn)} uses {_operator_name(drawn.target)} in eval mode: the network is random; expected one "
            "that answers the same images alike each time (F.dropout takes training=self.training)"
        )


def _without_effect(node: Any, name: str) -> bool:
    """Whether the value is that of the first argument: the same numbers in the same layout."""
    if name in _SAME:
        return True
    if name == "getitem":
        return node.args[1] == 0 and _operator_name(node.args[0].target) in SINGLE
    if name not in _COPIES:
        return False
    before, after = node.args[0].meta["val"], node.meta["val"]
    return bool(before.dtype == after.dtype and before.stride() == after.stride())


def _place(node: Any) -> str:
    """The module whose forward took this step."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1][:2] if stack else ("", "the network")
    kind = getattr(kind, "__name__", str(kind)).rpartition(".")[2]
    return f"{path or 'the network'} ({kind})"

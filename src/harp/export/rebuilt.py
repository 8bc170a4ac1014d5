"""A package's network as an ordinary module of PyTorch, with parameters and gradients."""

from torch import Tensor, nn

from harp.errors import HarpError
from harp.graph import Graph, Interpreter


class Rebuilt(nn.Module):
    """The network of a graph, in eval mode: logits [n, classes] of images [n, *shape], with gradients for both.

    Its state holds the graph's tensors under their names, floats as parameters, so it is attacked, measured, moved and
    trained on like any module; batch norms were folded when it was packed. Raises `HarpError` for a graph whose tensors
    no module can hold under their names.
    """

    def __init__(self, graph: Graph):
        super().__init__()
        self._interpreter = Interpreter(graph)
        self._places: list[tuple[str, nn.Module, str]] = []
        for name in graph.tensors:
            tensor = graph.tensor(name).clone()
            *path, last = name.split(".")
            holder: nn.Module = self
            try:
                for part in path:
                    if part not in dict(holder.named_children()):
                        holder.add_module(part, nn.Module())
                    holder = holder.get_submodule(part)
                if tensor.is_floating_point():
                    holder.register_parameter(last, nn.Parameter(tensor))
                else:
                    holder.register_buffer(last, tensor)
            except (KeyError, TypeError) as error:
                raise HarpError(f"no module can hold a tensor called {name[:100]!r}: {error}") from None
            self._places.append((name, holder, last))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        # Looked up at each call: a move, a load or a pruner may have put another tensor there.
        return self._interpreter.on({name: getattr(holder, last) for name, holder, last in self._places}, x)

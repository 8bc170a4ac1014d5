"""A plan as tables that fold names rather than cut them: 80 columns wide where output is piped."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from harp.cli.plan import Plan, few
from harp.sparsity import ChannelUnits


def print_plan(plan: Plan) -> None:
    """Prints to stdout, with colours only on a terminal."""
    # Names and reasons may hold brackets and colons, which rich would read as markup.
    console = Console(markup=False, highlight=False, emoji=False)
    parts: list[str | Table] = [plan.title]
    if isinstance(plan.units, ChannelUnits):
        parts += [_groups(plan, plan.units), "MACs are those of the weights that make the channels."]
        parts += [_together(plan, plan.units), _staying(plan.units)]
    else:
        parts += [_weights(plan)]
    total, budget, spent = plan.price
    whole = plan.budget.whole or total
    share = f"{plan.budget.keep * total / whole:g} of {round(whole):,} {plan.budget.unit}"
    parts += [_totals(plan), f"budget: {share} is {budget:,}; spent: {spent:,}"]
    parts += [f"note: {note}" for note in plan.notes]
    for number, part in enumerate(parts):
        if number:
            console.print()
        console.print(part)


def _weights(plan: Plan) -> Table:
    table = count_table("weight", "shape", "kept", "share", "MACs", "after", numbers=5)
    for site in plan.sites:
        shape = "x".join(map(str, site.param.shape))
        left = plan.left[site.name]
        table.add_row(site.name, shape, f"{left:,}", share_of(left, site.size), *_counts(plan.macs([site.name])))
    return table


def _groups(plan: Plan, units: ChannelUnits) -> Table:
    """One row a group, with every weight's MACs in one row only, so that the rows add up."""
    table = count_table("channels of", "units", "kept", "share", "MACs", "after", numbers=5)
    rest = [site.name for site in plan.sites]
    for group in units.groups:
        made = [name for name in plan.makers(group) if name in rest]
        rest = [name for name in rest if name not in made]
        table.add_row(group.name, f"{group.size:,}", *_kept(plan, group.name, group.size), *_counts(plan.macs(made)))
    table.add_row("(all others)", "", "", "", *_counts(plan.macs(rest)))
    return table


def _together(plan: Plan, units: ChannelUnits) -> Table:
    """A channel goes from all the weights of a row, and from the norms and biases between them, or from none."""
    table = count_table("removed together: made by", "and read by")
    for group in units.groups:
        others = [name for name in plan.makers(group) if name != group.name.partition("#")[0]]
        read = list(dict.fromkeys(part.name for part in group.consumers))
        table.add_row(few([group.name, *others], "\n"), few(read, "\n"))
    return table


def _staying(units: ChannelUnits) -> Table:
    table = count_table("channels of", "stay because")
    for name, reason in units.fixed.items():
        table.add_row(name, reason)
    return table


def _totals(plan: Plan) -> Table:
    table = count_table("", "before", "after", "share", numbers=3)
    for label, (before, after) in _sums(plan):
        table.add_row(label, *_counts((before, after)), share_of(after, before))
    return table


def _sums(plan: Plan) -> Iterator[tuple[str, tuple[int, int]]]:
    names = {site.name for site in plan.sites}
    yield "weights", (sum(site.size for site in plan.sites), sum(plan.left[name] for name in names))
    yield "MACs per image", plan.macs(names)
    if others := set(plan.before) - names - {None}:
        yield "MACs of weights not selected", plan.macs(others)
    if None in plan.before:
        yield "MACs without a weight (attention)", plan.macs([None])


def _kept(plan: Plan, name: str, size: int) -> tuple[str, str]:
    return f"{plan.kept[name]:,}", share_of(plan.kept[name], size)


def _counts(macs: tuple[int, int]) -> tuple[str, str]:
    return f"{macs[0]:,}", f"{macs[1]:,}"


def share_of(part: int, whole: int) -> str:
    """`1.04 %`; a dash of nothing."""
    return f"{100 * part / whole:.2f} %" if whole else "-"


def count_table(*headers: str, numbers: int = 0) -> Table:
    """Columns of names, the last so many of numbers, which never break."""
    table = Table(box=None, pad_edge=False)
    for index, header in enumerate(headers):
        number = index >= len(headers) - numbers
        table.add_column(header, justify="right" if number else "left", no_wrap=number, overflow="fold")
    return table

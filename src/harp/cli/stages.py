"""`harp run`, and each stage by its name."""

from harp.cli.recipes import asked
from harp.config import make_recipe


def run_command(command: str, arguments: list[str]) -> None:
    """Runs the stages that `command` stands for and says where the results are."""
    wanted = asked(command, arguments)
    recipe = make_recipe(wanted.values)
    # Imported late: torch takes a second, and --help or a mistyped flag should not wait for it.
    from harp.pipeline import Workspace
    from harp.report import REPORT
    from harp.stages import STAGES, run_stages
    from harp.stages.evaluate import table
    from harp.stages.runner import TRAINING

    work = Workspace(recipe, wanted.folder, edited=wanted.edited)
    if wanted.chosen:
        work.display.say(f"{wanted.chosen}; {work.threat}")
    whole = tuple(TRAINING) if wanted.training else STAGES
    run_stages(work, whole if command == "run" else (command,))
    if command in ("run", "evaluate") and not wanted.training and work.ranks.first:
        work.display.console.print(table(work))
        for note in work.split.notes:
            work.display.say(f"note: {note}")
    work.display.say(f"results: {work.run.folder}")
    if (work.run.folder / REPORT).exists():
        work.display.say(f"report:  {work.run.folder / REPORT}")

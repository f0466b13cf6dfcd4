"""`eegen doctor`: which of the tools that eegen can use this machine has."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from eegen.commands.shared.options import TARGET, Json, command, panel
from eegen.commands.shared.printing import print_fields, print_json
from eegen.options import Given


@command(panel(TARGET.options["cc"]), examples=("eegen doctor", "eegen doctor --fix"))
def doctor(
    general: Given,
    fix: Annotated[
        bool, typer.Option("--fix", metavar="", help="Install what is missing, where that is allowed.")
    ] = False,
    json: Json = False,
) -> None:
    """Print which of the tools that eegen can use this machine has, and how to install the others."""
    from eegen.toolchain import doctor as examination

    compiler = general.get("cc")
    actions = examination.fix(lambda line: print(f"$ {line}", file=sys.stderr), compiler) if fix else []
    findings = examination.findings(compiler)
    if json:
        print_json({"findings": [asdict(f) for f in findings], "actions": [asdict(a) for a in actions]})
    else:
        for action in actions:
            if not action.ok:
                print(f"failed      {action.command}\n{action.output}")
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            fields = [(f"{finding.state:<8} {finding.name}", finding.detail)]
            fields += [("", f"fix: {finding.fix_command}")] if finding.fix_command else []
            print_fields(fields, label=width + 11)
    if findings[0].state == "missing":
        raise typer.Exit(1)

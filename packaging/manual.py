#!/usr/bin/env python3
"""The manual page: a frame written by hand, filled with what the program says of its commands.

Usage: manual.py PROGRAM FRAME >sluice.8
"""

import pathlib
import re
import subprocess
import sys


def help_of(program, *command):
    """Sections of the help of a command: title -> list of (term, text). "" holds the description."""
    said = subprocess.run([program, *command, "--help"], check=True, capture_output=True, text=True).stdout
    sections, title = {"": []}, ""
    for line in said.splitlines():
        heading = re.fullmatch(r"(\S.*):", line)
        entry = re.match(r"  (\S.*?)(?:\s{2,}(\S.*))?$", line)
        if heading:
            title = heading.group(1)
            sections[title] = []
        elif line.startswith("Usage: "):
            sections["usage"] = [(line.removeprefix("Usage: "), "")]
        elif line.startswith("    ") and sections[title]:
            term, text = sections[title][-1]
            sections[title][-1] = (term, f"{text} {line.strip()}".strip())
        elif entry and title:
            sections[title].append((entry.group(1), entry.group(2) or ""))
        elif line.strip() and not title:
            sections[""].append((line.strip(), ""))
    return sections


def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text


def term(name, text):
    # CLI11 shows the default of a flag that is given the other way round in braces.
    name = re.sub(r"\{[^}]*\}", "", name)
    return f".TP\n.B {escape(name)}\n{escape(text)}"


def options(sections):
    return [
        term(name, text)
        for title, entries in sections.items()
        if title not in ("", "usage", "Subcommands")
        for name, text in entries
        if name != "-h,--help"
    ]


def commands(program, path=()):
    """One subsection for each command, those below it after it."""
    lines = []
    sections = help_of(program, *path)
    if path:
        usage = sections["usage"][0][0]
        lines += [f".SS {escape(usage)}", *(escape(text) + "." for text, _ in sections[""]), *options(sections)]
    for name, _ in sections.get("Subcommands", []):
        lines += commands(program, (*path, name))
    return lines


def main():
    program, frame = sys.argv[1:]
    version = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
    page = pathlib.Path(frame).read_text()
    page = page.replace("@VERSION@", version)
    page = page.replace("@OPTIONS@", "\n".join(options(help_of(program))))
    print(page.replace("@COMMANDS@", "\n".join(commands(program))), end="")


if __name__ == "__main__":
    main()
